"""From recipes to pipelines, in groups that can share an index."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from x2l import registry
from x2l.errors import X2LError
from x2l.interfaces import Backbone
from x2l.pipeline import Pipeline
from x2l.recipe import Recipe, build_pipeline

INDEXED = ("backbone", "compressor", "ratios", "chunk_frames", "sampling")
"""Fields of a recipe that an index depends on."""
READ = ("backbone", "chunk_frames", "sampling")
"""Fields of a recipe that decide what the language model reads of a video."""


@dataclass(frozen=True)
class Row:
    """A named way of answering."""

    name: str
    recipe: Recipe
    pipeline: Pipeline


def make_rows(recipes: Mapping[str, Recipe]) -> list[list[Row]]:
    """Rows with their parts, in groups that share an index; equal backbones are loaded once.

    Raises X2LError if a backbone lacks what a part requires.
    """
    backbones: dict[str, Backbone] = {}
    groups: dict[str, list[Row]] = {}
    for name, recipe in recipes.items():
        try:
            row = Row(name, recipe, _pipeline(recipe, backbones))
        except X2LError as error:
            raise X2LError(f"rows.{name}: {error}") from error
        groups.setdefault(fields_of(recipe, INDEXED), []).append(row)
    return list(groups.values())


def _pipeline(recipe: Recipe, backbones: dict[str, Backbone]) -> Pipeline:
    key = fields_of(recipe, ("backbone",))
    if key not in backbones:
        backbones[key] = registry.build("backbone", recipe.backbone)
    return build_pipeline(recipe, backbones[key])


def fields_of(recipe: Recipe, names: Sequence[str]) -> str:
    """Equal for recipes that agree in these fields."""
    mapping = recipe.to_mapping()
    return json.dumps([mapping[name] for name in names], sort_keys=True)
