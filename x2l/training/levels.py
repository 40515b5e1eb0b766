"""How much a training video is compressed: ratios by stage, and one for each chunk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from x2l.compressors.identity import Identity
from x2l.errors import require
from x2l.interfaces import Selector
from x2l.pipeline import Pipeline
from x2l.types import DROPPED, Plan, VideoIndex


@dataclass(frozen=True)
class Levels:
    """A stretch of the run in which videos are compressed in the same ways.

    num_steps: optimiser steps; the last stretch goes on to the end of the run.
    ratios: weight of each way to compress, by name: "1" uncompressed, "8" one level at 8x, "2/32" two.

    Source: Video-XL (arXiv 2409.14485), section 3.4: 2, 4, then 8, 12 and 16.
    """

    num_steps: int
    ratios: dict[str, float]

    def check(self, path: str) -> None:
        """Raise X2LError naming the field under `path` that no stretch can have."""
        require(self.num_steps >= 1, f"{path}.num_steps", "1 or more", self.num_steps)
        check_weights_of_ratios(self.ratios, f"{path}.ratios")


def check_levels(stages: Sequence[Levels], num_steps: int, selector: Selector) -> None:
    """Raise X2LError naming a stage that is impossible, never comes, or lacks a ratio of the selector's."""
    begun = 0
    for number, stage in enumerate(stages):
        stage.check(f"levels.{number}")
        require(begun < num_steps, f"levels.{number}", f"a beginning before num_steps ({num_steps})", begun)
        begun += stage.num_steps
        for name in stage.ratios:
            for field in ("ratio", "detail_ratio", "gist_ratio"):
                fixed = getattr(selector, field, None)
                fits = fixed in (None, DROPPED, *ratios_of(name))
                require(fits, f"levels.{number}.ratios", f"selector.{field} ({fixed}) in each", name)


def draw_levels(stages: Sequence[Levels], step: int, rng: np.random.Generator) -> tuple[int, ...] | None:
    """Ratios of a step's video; None where no stages are given: those of the pipeline."""
    if not stages:
        return None
    ends = np.cumsum([stage.num_steps for stage in stages])
    stage = stages[min(int(np.searchsorted(ends, step, side="right")), len(stages) - 1)]
    names, weights = zip(*stage.ratios.items(), strict=True)
    return ratios_of(str(rng.choice(names, p=np.array(weights) / sum(weights))))


def at_levels(pipeline: Pipeline, ratios: tuple[int, ...] | None) -> Pipeline:
    """The pipeline at other ratios; uncompressed KVs need no compressor."""
    if ratios is None:
        return pipeline
    if ratios == (1,):
        return replace(pipeline, ratios=ratios, compressor=Identity())
    return replace(pipeline, ratios=ratios)


def random_plan(index: VideoIndex, rng: np.random.Generator) -> Plan:
    """A ratio drawn for every chunk by itself ("step-random" in Video-XL's scripts)."""
    return Plan(tuple(int(ratio) for ratio in rng.choice(index.ratios, len(index.chunks))))


def ratios_of(name: str) -> tuple[int, ...]:
    """The levels that a way to compress makes: "2/32" has two."""
    return tuple(int(ratio) for ratio in name.split("/"))


def check_weights_of_ratios(weights: dict[str, float], path: str) -> None:
    """Raise X2LError naming the field under `path` that is no way to compress, or has no weight."""
    for name in weights:
        is_name = re.fullmatch(r"[1-9]\d*(/[1-9]\d*)?", name) is not None
        levels = name.split("/")
        fits = is_name and (len(levels) == 1 or (len(set(levels)) == 2 and "1" not in levels))
        require(fits, f"{path}.{name}", '"1", one ratio ("8") or two different ones ("2/32")', name)
    require_weights(weights, path)


def require_weights(weights: dict[str, Any], path: str) -> None:
    """Raise X2LError naming the field under `path` unless something has a weight and none has less than 0."""
    fits = sum(weights.values()) > 0 and min(weights.values()) >= 0
    require(fits, path, "numbers of 0 or more, not all of them 0", weights)
