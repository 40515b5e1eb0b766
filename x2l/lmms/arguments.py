"""What --model_args says: a recipe, or a row of an evaluation's, and fields of it that are overridden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x2l.config.settings import read_settings
from x2l.engine.loading import require_device
from x2l.errors import require, unknown
from x2l.evaluation.recipe import Evaluation
from x2l.recipe import RECOMMENDED, Recipe


def recipe_from(recipe: str | None, row: str | None, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe in a file, or the row of one for `x2l eval`; without a file, that of `x2l ask`.

    overrides: values by dotted key, such as {"selector.k": 3}; one that is text is YAML.
    Raises X2LError naming the wrong file, row or field, or a device that this machine does not have.
    """
    given = [f"{key}={value}" for key, value in overrides.items()]
    chosen = _chosen(recipe, row).apply(given).check()
    require_device(chosen.backbone.get("device", "cpu"))
    return chosen


def _chosen(recipe: str | None, row: str | None) -> Recipe:
    if recipe is not None and "rows" in read_settings(recipe):
        rows = Evaluation.load(recipe).rows
        if row not in rows:
            raise unknown(f"recipe {recipe}: row {row!r}", str(row), rows)
        return rows[row]
    require(row is None, "row", "none for a recipe without rows", row)
    return Recipe.from_mapping(RECOMMENDED) if recipe is None else Recipe.load(recipe)
