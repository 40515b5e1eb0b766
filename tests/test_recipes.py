"""Every recipe of an evaluation runs, and what is published is what was measured."""

import json
import re
import runpy
from pathlib import Path

import pytest

from x2l.evaluation import run
from x2l.evaluation.recipe import Evaluation

FOLDER = Path(__file__).parent.parent / "recipes"
RECIPES = [path for path in sorted(FOLDER.glob("*.yaml")) if not path.stem.startswith("train")]
MOST_LINES = 45


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recipes")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs(path, folder):
    """On one short video, which the recipes share."""
    is_haystack = Evaluation.load(path).mapping["data"]["name"] == "haystack"
    shared = f"data.dir={folder / ('haystack' if is_haystack else 'needles')}"
    out = folder / path.stem
    summary = run(path, out, [shared, "data.seed=5"], progress=False, size="smoke")
    evaluation = Evaluation.load(path)
    assert list(summary["rows"]) == list(evaluation.rows)
    num_lines = len((out / "results.jsonl").read_text().splitlines())
    assert num_lines == len(evaluation.rows) * summary["num_questions"]["all"] > 0
    assert len(summary["claims"]) == len(evaluation.mapping.get("claims", []))
    wanted = evaluation.mapping.get("figure")
    figures = ["accuracy", "tradeoff", *([wanted["kind"]] if wanted else [])]
    assert {(out / f"{name}.{kind}").stat().st_size > 0 for name in figures for kind in ("png", "svg")} == {
        True
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_short_and_says_what_it_shows(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= MOST_LINES and lines[0].startswith("# ")


def test_sizes_change_the_hash_and_no_row():
    full, quick, smoke = (Evaluation.load(RECIPES[0], size=size) for size in ("full", "quick", "smoke"))
    assert full.rows == quick.rows == smoke.rows
    assert len({full.hash(), quick.hash(), smoke.hash()}) == 3
    assert smoke.data.num < quick.data.num < full.data.num


def test_the_readme_is_what_the_results_say():
    publish = runpy.run_path(str(FOLDER / "publish.py"))
    text = (FOLDER / "README.md").read_text()
    assert text == publish["readme"]()
    for path in RECIPES:
        assert f"## {path.stem}\n" in text and f"x2l eval recipes/{path.name} --out runs/{path.stem}" in text
    published = [path for path in RECIPES if (FOLDER / "results" / f"{path.stem}.json").is_file()]
    assert published
    for path in published:
        summary = json.loads((FOLDER / "results" / f"{path.stem}.json").read_text())
        for claim in summary.get("claims", []):
            assert re.search(rf"^\| {re.escape(claim['say'])} \| {claim['value']:.2f} ", text, re.M)
