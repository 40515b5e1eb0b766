"""Recipes: defaults, strict keys, overrides, a hash that depends on the content alone."""

from pathlib import Path

import pytest

from x2l import recipe as module
from x2l.evaluation.recipe import Evaluation
from x2l.recipe import Recipe
from x2l.types import X2LError
from x2l.video import Sampling

FOLDER = Path(__file__).parent.parent / "recipes"
# A recipe without rows is read by the training command and has keys of its own.
RECIPES = sorted(path for path in FOLDER.glob("*.yaml") if "\nrows:" in path.read_text())


def error_of(call, *args) -> str:
    with pytest.raises(X2LError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(tmp_path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_an_empty_mapping_is_the_default_recipe(tmp_path):
    assert Recipe.load(write(tmp_path, "{}")) == Recipe()
    assert Recipe().ratios == (2, 32) and Recipe().chunk_frames == 10
    assert Recipe().oracle == module.DEFAULT_ORACLE


def test_recipes_do_not_share_their_defaults():
    Recipe().selector["k"] = 99
    assert Recipe().selector == {"name": "top_k", "k": 3}


def test_a_file_with_every_key(tmp_path):
    text = """
        backbone: {name: video_xl, model: folder}
        compressor: mean_pool
        oracle: {name: attention, pool: mean}
        selector: {name: top_k, k: 5}
        ratios: [4, 16]
        chunk_frames: 8
        sampling: {fps: 2, max_frames: 128}
        positions: original
    """
    recipe = Recipe.load(write(tmp_path, text))
    assert recipe.compressor == {"name": "mean_pool"} and recipe.ratios == (4, 16)
    assert recipe.sampling == Sampling(fps=2.0, max_frames=128)
    assert Recipe.from_mapping(recipe.to_mapping()) == recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chunk_frame: 3", ["chunk_frame:", "did you mean 'chunk_frames'?"]),
        ("sampling: {max_frame: 3}", ["sampling.max_frame:", "did you mean 'max_frames'?"]),
        ("sampling: {fps: 0}", ["sampling.fps", "above 0"]),
        ("sampling: {fps: null}", ["sampling", "neither"]),
        ("sampling: {num_frames: 1.5}", ["sampling.num_frames", "expected int"]),
        ("ratios: []", ["ratios", "positive"]),
        ("ratios: [0]", ["ratios", "positive"]),
        ("ratios: [2, 2]", ["ratios", "different"]),
        ("ratios: [2.5]", ["ratios.0", "int", "2.5"]),
        ("chunk_frames: 0", ["chunk_frames", "positive"]),
        ("chunk_frames: scene", ["chunk_frames: expected a positive integer or scenes, got 'scene'"]),
        ("positions: sideways", ["positions", "contiguous or original"]),
        ("oracle: 3", ["oracle", "name"]),
        ("1: 2", ["1: unknown"]),
        ("- a list", ["mapping"]),
        ("", ["mapping"]),
        ("ratios: [2", ["not YAML"]),
        ("backbone: {name: x2l_tiny, model: 2026-11-22}", ["backbone: expected plain data", "date"]),
    ],
)
def test_wrong_recipes_name_file_and_field(tmp_path, text, expected):
    path = write(tmp_path, text)
    message = error_of(Recipe.load, path)
    assert all(part in message for part in [str(path), *expected]), message


def test_a_missing_or_binary_file_is_named(tmp_path):
    assert "absent.yaml" in error_of(Recipe.load, tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    assert "binary.yaml" in error_of(Recipe.load, tmp_path / "binary.yaml")


def test_overrides_are_yaml_by_dotted_key():
    recipe = Recipe().apply(["selector.k=5", "ratios=[2, 8]", "oracle=annotated", "sampling.fps=0.5"])
    assert recipe.selector == {"name": "top_k", "k": 5} and recipe.ratios == (2, 8)
    assert recipe.oracle == {"name": "annotated"} and recipe.sampling.fps == 0.5


def test_overrides_reach_into_nested_methods():
    recipe = Recipe.from_mapping({"oracle": {"name": "wrapper", "inner": "attention"}})
    assert recipe.apply(["oracle.inner.pool=mean"]).oracle["inner"] == {"name": "attention", "pool": "mean"}
    assert recipe.oracle["inner"] == "attention"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("selector.k", "expected dotted.key=value"),
        ("=3", "expected dotted.key=value"),
        ("chunk_frames.k=3", "chunk_frames has no fields"),
        ("orcale.k=3", "did you mean 'oracle'?"),
        ("ratios=[2", "not YAML"),
    ],
)
def test_wrong_overrides_are_named(override, expected):
    assert expected in error_of(Recipe().apply, [override])


def test_hash_depends_on_content_not_on_order_or_spelling():
    one = Recipe.from_mapping({"selector": {"name": "top_k", "k": 3}, "oracle": "attention"})
    two = Recipe.from_mapping({"oracle": {"name": "attention"}, "selector": {"k": 3, "name": "top_k"}})
    assert one.hash() == two.hash()
    assert one.hash() != one.apply(["selector.k=4"]).hash()
    assert len(one.hash()) == 64


def test_check_names_a_wrong_field_of_a_method():
    recipe = Recipe.from_mapping({"backbone": "video_xl", "compressor": {"name": "mean_pool", "sise": 3}})
    assert "compressor.sise" in error_of(recipe.check)


def test_the_default_recipe_fits_the_shipped_methods():
    assert Recipe().check() == Recipe()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_fits_the_shipped_methods(path):
    Evaluation.load(path)
