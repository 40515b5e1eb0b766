"""The time line of an answer: on which level each chunk was in the cache, and how relevant it seemed."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise

from markupsafe import Markup

from x2l.drawing.words import minutes
from x2l.evaluation.report.templates import rendered
from x2l.types import DROPPED

WIDTH = 1000
"""Units of an SVG that is stretched over its place."""
FAINTEST = 0.14


def timeline(
    ratios: Sequence[int],
    scores: Sequence[float] | None = None,
    bounds_s: Sequence[float] | None = None,
    gold: Collection[int] = (),
) -> Markup:
    """An SVG with a block for each chunk, a bar over it for its score and a mark under it if it is gold.

    ratios, scores: of each chunk, as a plan has them. bounds_s: when each starts, and when the last ends;
    where that is not known, all are drawn equally long. gold: numbers of the chunks that hold the answer.
    """
    edges = _edges(len(ratios), bounds_s)
    heights = _heights(scores or [math.nan] * len(ratios))
    chunks = [
        {
            "x": left,
            "width": round(right - left, 1),
            "height": heights[i],
            "shade": shade(ratio),
            "is_gold": i in gold,
            "tip": _tip(i, ratio, scores, bounds_s, i in gold),
        }
        for i, (ratio, (left, right)) in enumerate(zip(ratios, pairwise(edges), strict=True))
    ]
    return rendered("timeline.svg", width=WIDTH, top=0 if any(heights) else 24, chunks=chunks)


def shade(ratio: int) -> float | None:
    """How dark a level is drawn, 0..1; None of a chunk that is left out."""
    return None if ratio == DROPPED else round(max(FAINTEST, 1 - math.log2(ratio) / 6), 2)


def level(ratio: int) -> str:
    return "left out" if ratio == DROPPED else f"{ratio}x"


def span(bounds_s: Sequence[float], chunk: int) -> str:
    """From when to when a chunk lasts."""
    return f"{minutes(bounds_s[chunk])}–{minutes(bounds_s[chunk + 1])}"


def _edges(num: int, bounds_s: Sequence[float] | None) -> list[float]:
    """Where chunks begin on the drawing; one of no length, such as a picture, is drawn as all others."""
    at = list(bounds_s or [])
    if len(at) != num + 1 or any(start >= end for start, end in pairwise(at)):
        at = list(range(num + 1))
    return [round(WIDTH * (x - at[0]) / (at[-1] - at[0]), 1) for x in at]


def _heights(scores: Sequence[float]) -> list[float]:
    """0..1 from the lowest score of the plan to the highest; none of a chunk without one."""
    known = [score for score in scores if math.isfinite(score)]
    low, high = min(known, default=0), max(known, default=0)
    wide = (high - low) or 1
    return [round(0.08 + 0.92 * (s - low) / wide, 3) if math.isfinite(s) else 0.0 for s in scores]


def _tip(
    chunk: int, ratio: int, scores: Sequence[float] | None, bounds_s: Sequence[float] | None, is_gold: bool
) -> str:
    facts = [f"chunk {chunk}", *([span(bounds_s, chunk)] if bounds_s else []), level(ratio)]
    facts += [f"score {scores[chunk]:.3g}"] if scores else []
    return ", ".join([*facts, *["holds the answer"][:is_gold]])
