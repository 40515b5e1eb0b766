// Chunks and evidence seek the player; the player moves a line over the time lines.
const player = () => document.querySelector(".x2l-stage video");

function seek(event) {
  const chosen = event.target.closest?.("[data-seek]");
  if (!chosen || !player()) return;
  player().currentTime = Number(chosen.dataset.seek);
  player().scrollIntoView({ behavior: "smooth", block: "nearest" });
}

document.addEventListener("click", seek);
document.addEventListener("keydown", (event) => event.key === "Enter" && seek(event));

// Events of media do not bubble, so they are caught on their way down.
for (const name of ["timeupdate", "seeking"]) {
  document.addEventListener(name, ({ target }) => {
    const share = target.duration ? target.currentTime / target.duration : 0;
    document.documentElement.style.setProperty("--x2l-at", share);
  }, true);
}
document.addEventListener("error", ({ target }) => {
  if (target === player()) target.parentElement.classList.add("x2l-unplayable");
}, true);
