"""A training run in a folder: from a recipe to a checkpoint, by one process group at a time, resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_only

from x2l.config.settings import first_difference, read_settings
from x2l.errors import X2LError, unknown
from x2l.storage.files import alone_in, make_folder, read_json, write_json, write_text
from x2l.training.recipe import TrainingRecipe

RECIPE, RESOLVED = "recipe.json", "recipe.yaml"
Kinds = Mapping[str, tuple[type[TrainingRecipe], Callable[[Any, Path, int], Path]]]
"""What can be trained: the recipe's class, and what follows it (recipe, folder, data processes)."""


def fit(
    recipe_path: Path, out: Path, kinds: Kinds, num_workers: int = 1, overrides: Sequence[str] = ()
) -> Path:
    """Train what the recipe's `train` names, where that is not done yet; returns the released checkpoint.

    kinds: by the names that `train` may have. overrides: "dotted.key=value", values are YAML.
    Raises X2LError naming the field of the recipe that is wrong, or not the one that `out` was begun with,
    and if another run trains in `out`.
    """
    name = str(read_settings(recipe_path).get("train", "x2l_tiny"))
    if name not in kinds:
        raise unknown(f"recipe {recipe_path}: train: {name}", name, kinds)
    kind, run = kinds[name]
    recipe = kind.load(recipe_path, overrides)
    recipe.check_data()
    make_folder(out)
    with alone_in(out) if _is_first_process() else nullcontext():
        _go_on_only_with_the_same(recipe, out)
        _show(recipe, out / RESOLVED)
        return run(recipe, out, num_workers)


def _is_first_process() -> bool:
    """Whether this process leads those that train together, as far as it can know before they meet."""
    return rank_zero_only.rank == 0 and os.environ.get("NODE_RANK", "0") == "0"


def _go_on_only_with_the_same(recipe: TrainingRecipe, out: Path) -> None:
    """Keep the recipe beside what it trains; raise X2LError if another one began there."""
    path, data = out / RECIPE, recipe.decisive()
    if not path.is_file():
        write_json(path, data)
    elif field := first_difference(read_json(path), data):
        raise X2LError(f"{field}: {out} was begun with another value, expected that of {path}")


def _show(recipe: TrainingRecipe, path: Path) -> None:
    """The whole recipe with its defaults, for people; the newest, where one that decides nothing changed."""
    text = yaml.safe_dump(recipe.to_mapping(), sort_keys=False)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
