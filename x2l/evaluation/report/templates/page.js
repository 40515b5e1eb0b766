"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// A click on a heading sorts the rows by its column; another one turns their order.
for (const button of all("table.main thead button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const number = heading.cellIndex;
    const body = heading.closest("table").tBodies[0];
    const isText = button.dataset.sort === "text";
    const downward = heading.ariaSort ? heading.ariaSort === "ascending" : !isText;
    const value = (row) => row.cells[number].dataset.value;
    const order = (a, b) => (isText ? a.localeCompare(b) : a - b) * (downward ? -1 : 1);
    const known = [...body.rows].filter((row) => value(row) !== "");
    const unknown = [...body.rows].filter((row) => value(row) === "");
    known.sort((a, b) => order(value(a), value(b)));
    body.append(...known, ...unknown);
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", downward ? "descending" : "ascending");
  });
}

// What is pointed at tells its numbers, and its row stands out everywhere.
const tip = document.getElementById("tip");
document.addEventListener("pointerover", (event) => {
  const row = event.target.closest("#table [data-row], #figures [data-row]")?.dataset.row;
  for (const each of all("#table [data-row], #figures [data-row]")) {
    each.classList.toggle("lit", each.dataset.row === row);
    each.classList.toggle("dim", row !== undefined && each.dataset.row !== row);
  }
  const told = event.target.closest("[data-tip]");
  tip.hidden = !told;
  if (!told) return;
  tip.textContent = told.dataset.tip;
  const place = told.getBoundingClientRect();
  const left = place.left + place.width / 2 - tip.offsetWidth / 2;
  const above = place.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(4, Math.min(left, innerWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${above > 0 ? above : place.bottom + 8}px`;
});

// Of two rows, the questions that they answer differently. Drawings and pictures are put where they are shown,
// and what a drawing tells is told as everything else.
const STEP = 20;
const chosen = (id) => document.getElementById(id).value;
const gaps = JSON.parse(document.getElementById("gaps")?.textContent ?? "{}");
let room = STEP;

function difference(article) {
  const said = article.querySelectorAll(".said");
  const [one, other] = [said[chosen("one")], said[chosen("other")]];
  const [right, otherRight] = [one.dataset.right === "true", other.dataset.right === "true"];
  const fits = { "": true, one: right && !otherRight, other: otherRight && !right };
  const isIn = !chosen("group") || article.dataset.group === chosen("group");
  return { differs: isIn && one.dataset.alike !== other.dataset.alike, fits: fits[chosen("verdict")], right, otherRight };
}

function show(article) {
  article.hidden = false;
  const said = all(".said", article);
  for (const each of said) each.hidden = ![chosen("one"), chosen("other")].includes(each.dataset.row);
  said[chosen("one")].style.order = 1;
  said[chosen("other")].style.order = 2;
  for (const place of all("[data-from]", article)) {
    if (place.closest(".said[hidden]")) continue;
    place.prepend(document.getElementById(place.dataset.from).content.cloneNode(true));
    place.removeAttribute("data-from");
    for (const title of all("title", place)) {
      title.parentElement.dataset.tip = title.textContent;
      title.remove();
    }
  }
}

function list() {
  const found = all("#differences article").map((article) => ({ article, ...difference(article) }));
  const differing = found.filter((each) => each.differs);
  const shown = differing.filter((each) => each.fits);
  const count = (test) => differing.filter(test).length;
  for (const { article } of found) article.hidden = true;
  for (const { article } of shown.slice(0, room)) show(article);
  document.getElementById("more").hidden = shown.length <= room;
  const gap = gaps[chosen("group") || "all"]?.[chosen("one")][chosen("other")];
  document.getElementById("told").textContent =
    `${differing.length} questions are answered differently: ` +
    `${count((each) => each.right && !each.otherRight)} only by the first rightly, ` +
    `${count((each) => each.otherRight && !each.right)} only by the second.` +
    (gap ? ` Accuracy of the first less the second, paired: ${gap}.` : "");
}

if (document.getElementById("one")) {
  for (const id of ["one", "other", "group", "verdict"]) {
    document.getElementById(id).addEventListener("change", () => {
      room = STEP;
      list();
    });
  }
  document.getElementById("more").addEventListener("click", () => {
    room += STEP;
    list();
  });
  list();
}
