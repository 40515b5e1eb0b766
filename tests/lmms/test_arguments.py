"""--model_args of lmms-eval: a recipe, or a row of an evaluation's, and overrides."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from x2l.cli.options import Options
from x2l.cli.setup import make_recipe
from x2l.errors import X2LError
from x2l.evaluation.recipe import Evaluation
from x2l.lmms.arguments import recipe_from

RECIPES = Path(__file__).parents[2] / "recipes"
SPINE = str(RECIPES / "spine.yaml")


def options(*assignments: str, recipe: str | None = None) -> Options:
    """Those of `x2l ask` with --set and --recipe."""
    given = dict.fromkeys(field.name for field in fields(Options))
    given |= {"assignments": assignments, "plugins": (), "recipe": recipe, "salvage": False, "quiet": True}
    return Options(**given)


def test_without_a_recipe_it_answers_as_ask_does():
    assert recipe_from(None, None, {}) == make_recipe(options())
    given = {"selector": "top_k", "selector.k": 5, "ratios": "[2, 8]", "proportional.beta": 0.5}
    asked = options("selector=top_k", "selector.k=5", "ratios=[2, 8]", "proportional.beta=0.5")
    assert recipe_from(None, None, given) == make_recipe(asked)


def test_a_file_is_a_recipe_of_ask_or_has_rows(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("selector: {name: constant, ratio: 2}\nsampling: {num_frames: 32}\n")
    assert recipe_from(str(own), None, {}) == make_recipe(options(recipe=str(own)))
    rows = Evaluation.load(SPINE).rows
    row = "bi-level attention top-3"
    assert recipe_from(SPINE, row, {}) == rows[row]
    assert recipe_from(SPINE, row, {"selector.k": 1}) == rows[row].apply(["selector.k=1"])


def test_the_command_on_the_page_is_valid():
    page = (RECIPES.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    (said,) = re.findall(r'--model_args "(.+)"', page)
    given = dict(each.split("=", 1) for each in said.split(","))
    recipe = recipe_from(str(RECIPES.parent / given.pop("recipe")), given.pop("row"), given)
    assert recipe.backbone["model"] == recipe.oracle["model"] == "FOLDER"


@pytest.mark.parametrize(
    ("recipe", "row", "overrides", "said"),
    [
        (SPINE, None, {}, "row None: unknown, expected one of"),
        (SPINE, "uniform 2", {}, "did you mean 'uniform 2x'"),
        (None, "uniform 2x", {}, "row: expected none for a recipe without rows, got 'uniform 2x'"),
        ("absent.yaml", None, {}, "recipe absent.yaml: cannot be read"),
        (None, None, {"selektor": "top_k"}, "selektor: unknown, .*did you mean 'selector'"),
        (None, None, {"selector.k": "three"}, "selector.k"),
        (None, None, {"backbone.device": "abacus"}, "device 'abacus': not available"),
    ],
)
def test_what_is_wrong_is_named(recipe, row, overrides, said):
    with pytest.raises(X2LError, match=said) as error:
        recipe_from(recipe, row, overrides)
    assert "\n" not in str(error.value)
