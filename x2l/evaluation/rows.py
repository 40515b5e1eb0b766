"""From recipes to pipelines, and one index for all rows that can share it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from x2l import registry
from x2l.errors import X2LError
from x2l.interfaces import Backbone, Oracle
from x2l.pipeline import Pipeline
from x2l.recipe import Recipe, build_pipeline
from x2l.types import VideoIndex
from x2l.video import Footage

INDEXED = ("backbone", "compressor", "ratios", "chunk_frames", "sampling")
"""Fields of a recipe that an index depends on."""


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
        groups.setdefault(_key(recipe, INDEXED), []).append(row)
    return list(groups.values())


def index(group: Sequence[Row], video: Footage) -> VideoIndex:
    """The index that the rows of a group ask, with what each of their oracles stores about the chunks."""
    pipeline = group[0].pipeline
    together = Together([row.pipeline.oracle for row in group])
    return replace(pipeline, oracle=together).index(video)


@dataclass
class Together(Oracle):
    """Lets several oracles look at each chunk while its frames are at hand; it scores nothing itself."""

    oracles: list[Oracle] = field(default_factory=list)

    def score(self, question, index, backbone) -> None:
        return None


def _pipeline(recipe: Recipe, backbones: dict[str, Backbone]) -> Pipeline:
    key = _key(recipe, ("backbone",))
    if key not in backbones:
        backbones[key] = registry.build("backbone", recipe.backbone)
    return build_pipeline(recipe, backbones[key])


def _key(recipe: Recipe, names: Sequence[str]) -> str:
    mapping = recipe.to_mapping()
    return json.dumps([mapping[name] for name in names], sort_keys=True)
