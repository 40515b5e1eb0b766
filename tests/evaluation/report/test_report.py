"""A report is one file that says what its runs say, and nothing else."""

import base64
import json
import shutil
from contextlib import redirect_stderr
from html.parser import HTMLParser
from io import BytesIO, StringIO

import numpy as np
import pytest
from made_runs import made_run, wrong
from models import save, tiny_backbone
from PIL import Image

from x2l.cli import main
from x2l.evaluation.report import differences, pictures, write_report
from x2l.evaluation.results import read
from x2l.needles.dataset import write_dataset
from x2l.storage.files import read_json
from x2l.video import Sampling, open_video

RECIPE = """
data: {name: folder, dir: DATA}
base:
  backbone: {name: video_xl, model: MODEL}
  ratios: [2, 8]
  chunk_frames: 2
rows:
  uniform 2x: {selector: {name: constant, ratio: 2}}
  gold: {oracle: annotated, selector: {name: top_k, k: 1}}
  uniform 8x: {selector: {name: constant, ratio: 8}}
claims:
  - {say: 2x has half of the cache, row: uniform 2x, measure: cache_gone, at_least: 0.5}
  - {say: ... and little of it, row: uniform 2x, measure: cache_gone, at_least: 0.9}
figure: {kind: storage}
"""
ROWS = ["uniform 2x", "gold", "uniform 8x"]
VOID = {"meta", "img", "br"}


class Element:
    """A tag of a parsed page with what is in it."""

    def __init__(self, tag, attributes):
        self.tag, self.attributes, self.parts = tag, dict(attributes), []

    @property
    def text(self):
        return " ".join("".join(p if isinstance(p, str) else f" {p.text} " for p in self.parts).split())

    def all(self, tag, **attributes):
        for part in self.parts:
            if isinstance(part, Element):
                if part.tag == tag and attributes.items() <= part.attributes.items():
                    yield part
                yield from part.all(tag, **attributes)

    def one(self, tag, **attributes):
        (found,) = self.all(tag, **attributes)
        return found


class Page(HTMLParser):
    """A page as a tree; tags that do not pair fail."""

    def __init__(self, path):
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == [self.root]

    def handle_starttag(self, tag, attributes):
        element = Element(tag, attributes)
        self.open[-1].parts.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.open[-1].parts.append(Element(tag, attributes))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].parts.append(data)


def parsed(path):
    return Page(path).root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of x2l eval over two short videos with a random tiny backbone."""
    folder = tmp_path_factory.mktemp("report")
    save(tiny_backbone(), folder / "model")
    questions = {"detail": 2, "exist": 1, "count": 1}
    write_dataset(folder / "data", 2, 3, 4, size=96, seconds_per_scene=2, questions=questions)
    text = RECIPE.replace("DATA", str(folder / "data")).replace("MODEL", str(folder / "model"))
    (folder / "recipe.yaml").write_text(text)
    with redirect_stderr(StringIO()) as told:
        assert main(["eval", str(folder / "recipe.yaml"), "--out", str(folder / "tiny")]) == 0
    assert told.getvalue().endswith(f"See it: x2l report {folder / 'tiny'}\n")
    return folder / "tiny"


@pytest.fixture(scope="module")
def page(run):
    assert main(["report", str(run), "--quiet"]) == 0
    return parsed(run / "report.html")


def lines_by_question(run):
    questions = {}
    for line in read(run):
        questions.setdefault((line["video"], line["question"]), {})[line["row"]] = line
    return questions


def test_the_table_is_that_of_the_summary_and_knows_its_numbers(run, page):
    summary = read_json(run / "summary.json")
    rows = list(page.one("table", **{"class": "main"}).one("tbody").all("tr"))
    assert [row.one("th").text for row in rows] == ROWS
    for name, row in zip(ROWS, rows, strict=True):
        cells = list(row.all("td"))
        for cell, group in zip(cells, summary["num_questions"], strict=False):
            accuracy = summary["rows"][name]["accuracy"][group]
            low, high = accuracy["interval"]
            assert cell.text == f"{accuracy['mean']:.2f} {low:.2f}–{high:.2f}"
            assert float(cell.attributes["data-value"]) == accuracy["mean"]
        gone = summary["rows"][name]["cache_reduction"]["all"]
        assert cells[len(summary["num_questions"])].text == f"{100 * gone:.1f} %"
    assert rows[0].attributes["data-row"] == "0" and cells[-1].attributes["data-value"] == ""
    heads = [button.text for button in page.one("table", **{"class": "main"}).one("thead").all("button")]
    assert heads[:5] == ["row", *(f"{group} ({num})" for group, num in summary["num_questions"].items())]


def test_a_run_on_few_videos_says_that_it_measures_nothing(run, page, monkeypatch):
    assert "Too few videos to conclude anything" in page.one("header").text
    monkeypatch.setattr("x2l.evaluation.report.page.FEW", 1)
    write_report([run], run / "enough.html")
    assert "Too few" not in parsed(run / "enough.html").one("header").text


def test_claims_that_fail_come_first_and_whole(page):
    rows = list(page.one("section", id="claims").one("tbody").all("tr"))
    assert [[cell.text for cell in row.all("td")] for row in rows] == [
        ["2x has half of the cache ... and little of it", "0.50", "at least 0.9", "no"],
        ["2x has half of the cache", "0.50", "at least 0.5", "yes"],
    ]
    assert "1 of 2 claims hold" in page.one("header").text


def test_figures_tell_what_is_pointed_at(run, page):
    """One mark for each row and group in both figures, where its number is; the recipe's own figure."""
    summary = read_json(run / "summary.json")
    marks = list(page.one("section", id="figures").all("g", **{"class": "mark"}))
    groups = summary["num_questions"]
    assert len(marks) == 2 * len(groups) * len(ROWS)
    accuracy = summary["rows"]["gold"]["accuracy"]["detail"]
    low, high = accuracy["interval"]
    told = f"gold\ndetail: {accuracy['mean']:.2f} [{low:.2f}, {high:.2f}], n = 4\n"
    mine = [mark for mark in marks if mark.attributes["data-tip"].startswith(told)]
    assert [mark.attributes["data-row"] for mark in mine] == ["1", "1"]
    to_the_right, up = (next(mark.all("g")).attributes["transform"] for mark in mine)
    gone = summary["rows"]["gold"]["cache_reduction"]["detail"]
    assert to_the_right == f"translate({120 * accuracy['mean']:.1f} 30.0)"
    assert up == f"translate({320 * gone:.1f} {230 * (1 - accuracy['mean']):.1f})"
    drawn = page.one("img", alt="tiny: storage").attributes["src"]
    assert decoded(drawn) == (run / "storage.svg").read_bytes()


def decoded(url):
    return base64.b64decode(url.partition(",")[2])


def test_questions_that_rows_answer_differently_show_what_each_row_had(run, page):
    questions = {
        key: of_rows
        for key, of_rows in lines_by_question(run).items()
        if len({line["prediction"].casefold() for line in of_rows.values()}) > 1
    }
    articles = list(page.all("article"))
    assert 0 < len(articles) == len(questions)
    templates = {each.attributes["id"]: each for each in page.all("template")}
    for article in articles:
        video, question, group = next(article.all("p")).text.split(" · ")
        lines = questions.pop((video, question))
        first = lines[ROWS[0]]
        assert (article.one("h3").text, article.attributes["data-group"]) == (first["text"], first["group"])
        assert article.one("div", **{"class": "expected"}).one("strong").text == first["gold"] and group
        said = list(article.all("div", **{"class": "said"}))
        alike = [each.attributes["data-alike"] for each in said]
        for name, each in zip(ROWS, said, strict=True):
            line = lines[name]
            assert each.one("strong", **{"class": "answer"}).text == line["prediction"].strip()
            assert each.attributes["data-right"] == json.dumps(line["right"])
            same = [lines[other]["prediction"].casefold() == line["prediction"].casefold() for other in ROWS]
            assert same == [other == each.attributes["data-alike"] for other in alike]
            chunks = [chunk.text for chunk in templates[drawing_of(each)].all("title")]
            assert all(f"{ratio}x" in tip.split() for ratio, tip in zip(line["plan"], chunks, strict=True))
            gold = [number for number, tip in enumerate(chunks) if tip.endswith("holds the answer")]
            assert gold == line["gold_chunks"]
    assert not questions


def drawing_of(said):
    (name,) = {
        each.attributes["data-from"]
        for each in said.all("div")
        if each.attributes.get("data-from", "").startswith("drawing-")
    }
    return name


def test_pictures_are_of_the_chunks_that_were_reloaded(run, page):
    """Of the middle of each, as it is in the video."""
    templates = {each.attributes["id"]: each for each in page.all("template")}
    videos = read_json(run / "run.json")["videos"]
    seen = 0
    for article in page.all("article"):
        video, question, _ = next(article.all("p")).text.split(" · ")
        line = lines_by_question(run)[video, question]["gold"]
        footage = open_video(run / videos[video], Sampling())
        plain, pictured = (list(said.all("li")) for said in list(article.all("div", **{"class": "said"}))[:2])
        assert len(pictured) == len(line["detailed_chunks"])
        for chunk, item in zip(line["detailed_chunks"], pictured, strict=True):
            start_s, end_s = line["bounds_s"][chunk : chunk + 2]
            assert item.text == f"0:{int(start_s):02}–0:{int(end_s):02}"
            picture = templates[item.attributes["data-from"]].one("img").attributes["src"]
            frame = footage.frames(np.array([np.flatnonzero(footage.times_s <= (start_s + end_s) / 2)[-1]]))[
                0
            ]
            shown = np.asarray(Image.open(BytesIO(decoded(picture))))
            assert shown.shape == frame.shape
            assert np.abs(shown.astype(float) - frame).mean() < 12
            seen += 1
        assert not plain
    assert seen


def test_the_page_needs_nothing_from_elsewhere(run, page):
    for element in page.all("img"):
        assert element.attributes["src"].startswith("data:")
    assert not list(page.all("link")) and all("src" not in each.attributes for each in page.all("script"))
    assert all(each.attributes["href"].startswith("#") for each in page.all("a"))
    text = (run / "report.html").read_text()
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text


def test_where_the_numbers_come_from_is_told(run, page):
    summary, source = read_json(run / "summary.json"), page.one("section", id="source")
    facts = dict(zip((e.text for e in source.all("dt")), (e.text for e in source.all("dd")), strict=True))
    assert summary["date"] in facts["date"] and facts["recipe hash"] == summary["recipe_hash"]
    assert f"torch {summary['versions']['torch']}" in facts["versions"] and "cpu" in facts["devices"]
    assert facts["seeds"] == "bootstrap 0"
    assert "ratio: 8" in source.one("pre").text


def test_a_run_that_does_not_tell_when_chunks_are_has_no_pictures(run, tmp_path):
    """Results of earlier versions."""
    old = shutil.copytree(run, tmp_path / "old")
    lines = [{name: value for name, value in line.items() if name != "bounds_s"} for line in read(old)]
    (old / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    known = read_json(old / "run.json")
    del known["videos"]
    (old / "run.json").write_text(json.dumps(known))
    assert main(["report", str(old), "--quiet", "-o", str(tmp_path / "page.html")]) == 0
    page = parsed(tmp_path / "page.html")
    drawn = list(page.all("template"))
    assert drawn and all(each.attributes["id"].startswith("drawing-") for each in drawn)
    (timeline,) = drawn[0].all("svg", **{"class": "x2l-timeline"})
    assert [chunk.attributes["x"] for chunk in timeline.parts] == ["0.000%", "25.000%", "50.000%", "75.000%"]


def test_what_runs_hold_is_text(tmp_path):
    hostile = '"><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }}'
    answers = [{"prediction": hostile, "right": False, "text": hostile, "group": hostile, "gold": "'&"}, {}]
    claims = [{"say": hostile, "row": hostile, "at_least": 0.5}]
    run = made_run(
        tmp_path / "<b>", {hostile: answers, "b": [answers[0] | {"prediction": "b"}, wrong(1)]}, claims
    )
    write_report([run], tmp_path / "page.html")
    page = parsed(tmp_path / "page.html")
    assert page.one("h1").text == "<b>"
    assert not list(page.all("img")) and len(list(page.all("script"))) == 2
    first = next(page.all("article"))
    assert first.one("h3").text == " ".join(hostile.split())
    assert page.one("section", id="claims").one("tbody").text.startswith('"><script>')


def test_two_runs_share_a_page_on_what_both_have_answered(tmp_path):
    one = made_run(
        tmp_path / "one", {"a": [{}, {}, wrong(2), {}]}, [{"say": "A", "row": "a", "at_least": 0.9}]
    )
    other = made_run(tmp_path / "other", {"a": [wrong(0), {}, {}]})
    assert main(["report", str(one), str(other), "-o", str(tmp_path / "page.html")]) == 0
    page = parsed(tmp_path / "page.html")
    assert page.one("h1").text == "one and other"
    rows = list(page.one("table", **{"class": "main"}).one("tbody").all("tr"))
    assert [(row.one("th").text, list(row.all("td"))[2].text[:4]) for row in rows] == [
        ("one: a", "0.67"),
        ("other: a", "0.67"),
    ]
    # Runs are no sessions of each other: what took how long is not compared.
    assert [bool(list(row.all("td"))[-3].text) for row in rows] == [True, False]
    assert [each.one("h3").text for each in page.all("article")] == ["Which number, n0?", "Which number, n2?"]
    # A claim is judged on all questions of its run.
    assert "A 0.75" in page.one("section", id="claims").text
    gaps = json.loads(page.one("script", id="gaps").text)
    assert gaps["all"][0] == ["", "+0.00 [-1.00, +0.50]"] and gaps["count"][0][1] == "+0.00 [+0.00, +0.00]"


def test_answers_without_a_right_one_are_shown_without_a_table(tmp_path):
    unscored = {"gold": None, "right": None}
    run = made_run(tmp_path / "run", {"a": [unscored | {"prediction": "yes"}], "b": [unscored]})
    write_report([run], tmp_path / "page.html")
    page = parsed(tmp_path / "page.html")
    assert not list(page.all("section", id="table")) and "Not scored: 1 questions" in page.text
    assert [each.text for each in page.one("article").all("strong")] == ["yes", "0"]


def test_a_large_run_stays_below_ten_megabytes_and_tells_what_is_left_out(tmp_path, monkeypatch):
    """With more answers and more chunks than there is room for; longer texts make a smaller run do."""
    monkeypatch.setattr(differences, "LONGEST", 2000)

    def said(row, number):
        scores = [(2 * number + row + i**2) / 1000 for i in range(20)]
        text = {"prediction": f"{row} {number} " * 500, "right": False, "text": "why " * 800}
        timed = {"plan": [2, 32] * 10, "scores": scores, "bounds_s": [10.0 * i for i in range(21)]}
        return text | timed | {"detailed_chunks": [], "gold_chunks": []}

    run = made_run(tmp_path / "run", {f"row {row}": [said(row, i) for i in range(700)] for row in range(2)})
    write_report([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert 5_000_000 < len(page.encode()) < 7_500_000  # without pictures
    num_listed, num_drawn = page.count("<article "), page.count('<template id="drawing-')
    assert 400 < num_listed < 700 and num_drawn == differences.MOST_CHUNKS // 20
    left_out = f"{700 - num_listed} questions, {2 * num_listed - num_drawn} time lines."
    assert f"Left out, so that the page stays small: {left_out}" in page


def test_pictures_are_bounded(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST", 2)
    write_report([run], tmp_path / "page.html")
    page = parsed(tmp_path / "page.html")
    made = [each for each in page.all("template") if each.attributes["id"].startswith("picture")]
    assert len(made) == 2 and "pictures." in page.one("section", id="differences").text


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["."], "run.json: cannot be read"),
        (["one", "one"], "one: is there twice, expected different runs"),
        (["one", "elsewhere"], "elsewhere: has answered no question of"),
        (["one", "-o", "no/page.html"], "page.html: cannot be written"),
    ],
    ids=["no run", "twice", "nothing shared", "no folder"],
)
def test_what_cannot_be_shown_is_one_line(runs, message, tmp_path, monkeypatch, capsys):
    made_run(tmp_path / "one", {"a": [{}]})
    made_run(tmp_path / "elsewhere", {"a": [{"video": "9.mp4", "asked": "other"}]})
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", *runs]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and sorted(tmp_path.rglob("*")) == before
