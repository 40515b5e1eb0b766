"""The documentation as a site, and the pages that a newcomer reads, followed to the letter."""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pages
import pytest
from models import small_video

from x2l.cli.app import main
from x2l.evaluation.recipe import Evaluation

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TROUBLE = DOCS / "troubleshooting.md"
COUNTED = ("uncompressed KVs", "index in host memory", "hybrid cache", "peak on the device")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def test_it_builds_without_warnings_and_loads_nothing_from_elsewhere(site):
    """Links may lead away; scripts, styles, fonts and pictures may not."""
    loaded = re.compile(
        r"<(?:link|script|img|iframe|source|object)\b[^>]*?\b(?:src|href|data)=[\"']?([^\"' >]+)"
    )
    found = [
        f"{page.name}: {url}" for page in site.rglob("*.html") for url in loaded.findall(page.read_text())
    ]
    assert len(found) > 100 and not [each for each in found if re.search(r": (https?:)?//", each)]
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert not re.search(r"url\([\"']?(https?:)?//|@import", styles)


def test_its_pages_hold_what_lies_outside_of_docs_and_the_docstrings(site):
    recipes = (site / "source" / "recipes" / "index.html").read_text()
    assert "Video-X^2L, Table 1" in recipes and "results/table1.html" in recipes
    assert (site / "source" / "recipes" / "results" / "table1-tradeoff.svg").is_file()
    assert "The <code>k</code> chunks with the highest scores" in (site / "api" / "methods.html").read_text()
    assert "assert_identity" in (site / "bring_your_own_model.html").read_text()


def written(page: Path, folder: Path) -> None:
    """Writes the blocks of a page that open with the name of a file."""
    for block in re.findall(
        r"^```(?:python|yaml)\n(# \S+\.(?:py|yaml)\n.*?)^```", page.read_text(), re.M | re.S
    ):
        (folder / block.split()[1]).write_text(block)


def test_the_first_five_minutes_are_as_the_page_says(checkout, capsys):
    page = (DOCS / "README.md").read_text()
    readme = (ROOT / "README.md").read_text()
    (code,), first = pages.blocks("python", page), pages.blocks("python", readme)[0]
    assert code.partition("index =")[0] == first.partition("index =")[0]  # which tests/test_readme.py runs
    index, *asked = pages.commands(page)
    assert main([*index, "--num-frames", "40"]) == 0 and len(asked) == 2
    assert [main(command) for command in asked] == [0, 0]
    assert capsys.readouterr().out.count("KV cache") == 2


def test_the_oracle_of_the_page_answers_and_is_a_row(checkout, capsys):
    page = DOCS / "bring_your_own_oracle.md"
    written(page, checkout)
    ask, evaluate = pages.commands(page.read_text())
    assert main([*ask, "--num-frames", "20"]) == 0
    recipe = evaluate[1]
    changes = [value for name, value in pairwise(evaluate) if name == "--set"]
    assert Evaluation.load(recipe, changes).rows["edges"].oracle == {"name": "edges"}


def test_the_benchmark_of_the_page_is_measured(checkout, capsys):
    page = DOCS / "bring_your_own_benchmark.md"
    written(page, checkout)
    video = small_video(checkout / "data")
    record = {
        "video": f"videos/{video.name}",
        "ask": "Is it day?",
        "choices": ["yes", "no"],
        "right": "no",
        "topic": "time",
    }
    (checkout / "data" / "trivia.jsonl").write_text("\n".join([json.dumps(record)] * 2))
    (command,) = pages.commands(page.read_text())
    assert main([*command, "--quiet"]) == 0
    assert "time (2)" in capsys.readouterr().out


def test_the_table_of_the_memory_page_is_what_is_estimated(capsys):
    page = (DOCS / "memory.md").read_text()
    rows = re.findall(r"^\| `(\w+)(.*?)` \| (\d+) \| (.*) \|$", page, re.M)
    assert len(rows) == 6
    ran = []
    for backbone, options, frames, figures in rows:
        ran.append(["estimate", "--backbone", backbone, "--frames", frames, *options.split()])
        assert main(ran[-1]) == 0
        told = capsys.readouterr().out
        counted = [re.search(rf"^{name}.*?([\d.]+ GB)", told, re.M).group(1) for name in COUNTED]
        weights = re.search(r"weights (.*)\)", told).group(1)
        assert figures.split(" | ") == [*counted, weights], (backbone, frames)
    assert [main(command) for command in pages.commands(page) if command not in ran] == [0]


def test_the_recipes_of_the_page_on_the_paper_exist():
    page = (DOCS / "reproducing.md").read_text()
    ((command, recipe, *_),) = pages.commands(page)
    assert command == "eval" and (ROOT / recipe).is_file()
    times = dict(re.findall(r"\[(\w+)\]\(\.\./recipes/README\.md#\w+\) \| (\d+ min)", page))
    told = (ROOT / "recipes" / "README.md").read_text()
    assert len(times) == 7
    for name, time in times.items():
        assert re.search(rf"--out runs/{name}` \|.*\| {time} \|", told), name


def test_every_symptom_is_one_that_is_said():
    """What stands for itself in a message is in the code; `...` for what differs is not."""
    said = " ".join(path.read_text() for path in (ROOT / "x2l").rglob("*.py"))
    said = re.sub(r'"\s+f?"', "", said)
    symptoms = re.findall(r"^\| `(.*?)`", TROUBLE.read_text(), re.M)
    assert len(symptoms) > 30
    unknown = [part for each in symptoms for part in each.split("…") if part.strip() not in said]
    assert not unknown


@pytest.mark.parametrize(
    ("arguments", "symptom"),
    [
        (["ask", "nofile.mp4", "?"], "no such file"),
        (["ask", "empty.mp4", "?"], "not a video file, or its header is corrupted"),
        (["ask", "https://example.com/v.mp4", "?"], "is a URL, expected a path on this machine"),
        (["ask", "examples/needles.mp4", "?", "--selector", "topk"], "unknown, expected one of"),
        (
            ["ask", "examples/needles.mp4", "?", "--backbone", "qwen2_5_vl", "--set", "backbone.model=here"],
            "neither",
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_a_symptom_comes_as_the_page_says(arguments, symptom, checkout, capsys):
    (checkout / "empty.mp4").write_text("hello")
    assert main(arguments) == 2
    assert symptom in capsys.readouterr().err and symptom in TROUBLE.read_text()


def test_the_pictures_show_what_happens(tmp_path, monkeypatch):
    """What they say, the tokens of every chunk among it, is what a new drawing says."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import draw_concepts
    import draw_timeline
    from sample import Sample

    answer = draw_timeline.draw(Sample.read(), tmp_path / "timeline.svg")
    assert answer.text == draw_timeline.ASKED.answer == "7"
    sample = Sample.read({"ratios": draw_concepts.RATIOS})
    fast = [figure for figure in draw_concepts.FIGURES if figure is not draw_concepts.chunker]
    monkeypatch.setattr(draw_concepts, "FIGURES", fast)
    draw_concepts.draw(sample, tmp_path / "figures")
    for drawn in (tmp_path / "timeline.svg", *(tmp_path / "figures").iterdir()):
        committed = DOCS / drawn.relative_to(tmp_path)
        assert spoken(drawn) == spoken(committed) != []
    page, answer = (DOCS / "concepts.md").read_text(), sample.pipeline.ask(sample.index, draw_timeline.ASKED)
    assert f"{answer.kv_tokens} tokens in place of {answer.kv_tokens_full:,}" in page


def spoken(picture: Path) -> list[str]:
    return re.findall(r"<!-- (.*?) -->", picture.read_text())
