"""The time line of an answer: how relevant each chunk was found, and at which level it was answered from."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from x2l.drawing.palette import COLOURS, GREY
from x2l.drawing.words import minutes, span
from x2l.types import DROPPED, Plan

Number = int | float

_MOST_TICKS = 9
_TICKS_S = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 36000)

STYLE = f"""
.x2l-timeline {{ --dense: var(--x2l-dense, {COLOURS[0]}); --coarse: var(--x2l-coarse, {COLOURS[4]}) }}
.x2l-timeline text {{ font: 11px system-ui, sans-serif; fill: currentColor; opacity: .7 }}
.x2l-timeline rect {{ x: 3%; width: 94% }}
.x2l-timeline .area {{ x: 0; width: 100%; fill: transparent }}
.x2l-timeline [data-seek] {{ cursor: pointer; outline: none }}
.x2l-timeline [data-chunk]:is(:hover, :focus-visible) .area {{ fill: currentColor; fill-opacity: .1 }}
.x2l-timeline .score {{ fill: {GREY}; fill-opacity: .55 }}
.x2l-timeline .evidence .score {{ fill: var(--dense); fill-opacity: 1 }}
.x2l-timeline .level {{ fill: color-mix(in oklch, var(--dense), var(--coarse) var(--gist)) }}
.x2l-timeline .dropped {{ fill: none; stroke: {GREY}; stroke-dasharray: 2 2 }}
.x2l-timeline .gold {{ fill: var(--x2l-gold, {COLOURS[6]}) }}
.x2l-timeline .axis {{ stroke: currentColor; stroke-opacity: .25 }}
"""
"""For a page with time lines; where it is dark, it sets lighter --x2l-dense, --x2l-coarse and --x2l-gold."""


@dataclass(frozen=True)
class Size:
    """Pixels: of the highest score, of the densest level, between rows, and of the times under them."""

    scores: int
    levels: int
    gap: int
    axis: int


LARGE, SMALL = Size(66, 30, 8, 20), Size(24, 12, 2, 0)


def timeline(
    plan: Plan,
    bounds_s: Sequence[Number] | None = None,
    tokens: Sequence[int] | None = None,
    gold: Collection[int] = (),
    size: Size = LARGE,
) -> Markup:
    """An SVG of the chunks, as wide as its place: scores; levels, the taller the denser; what is gold.

    Each chunk tells its figures when it is pointed at. With times under it, `data-seek` is its start in
    seconds. bounds_s: when each starts, and when the last ends; where that is not known, or a chunk has no
    length, as a picture, all are drawn equally long. tokens: of each that are in the cache.
    gold: numbers of the chunks that hold the answer.
    """
    times = _growing(bounds_s, len(plan.ratios))
    edges = times or [*range(len(plan.ratios) + 1)]
    shares = _score_shares(plan.scores) if plan.scores else [0.0] * len(plan.ratios)
    least = _evidence_ratio(plan.ratios)
    scores_end = size.scores if plan.scores else 0
    levels_end = scores_end + size.gap + size.levels
    end = levels_end + (size.gap + size.levels / 3 if gold else 0)

    def drawn(chunk: int) -> str:
        ratio, is_gold = plan.ratios[chunk], chunk in gold
        x, right = (_percent(edge, edges) for edge in edges[chunk : chunk + 2])
        seek = f' data-seek="{times[chunk]:g}" role="button" tabindex="0"' if times and size.axis else ""
        bars = [
            _bar('class="score"', scores_end, size.scores * shares[chunk]) if shares[chunk] else "",
            _level_bar(ratio, levels_end, size.levels),
            _bar('class="gold"', end, size.levels / 3) if is_gold else "",
        ]
        return (
            f'<svg class="{"evidence" if ratio == least else ""}" data-chunk="{chunk}"{seek} x="{x:.3f}%" '
            f'width="{right - x:.3f}%"><title>{_tip(chunk, plan, times, tokens, is_gold)}</title>'
            f'<rect class="area" height="{end:g}"/>{"".join(bars)}</svg>'
        )

    axis = "".join(_axis(times, end, size.axis)) if times and size.axis else ""
    chunks = "".join(map(drawn, range(len(plan.ratios))))
    return Markup(
        f'<svg class="x2l-timeline" role="group" aria-label="Time line of {len(plan.ratios)} chunks" '
        f'width="100%" height="{end + (size.axis if axis else 0):g}">{chunks}{axis}</svg>'
    )


def level(ratio: int) -> str:
    """In words."""
    return "left out" if ratio == DROPPED else f"{ratio}x"


def swatch(ratio: int) -> Markup:
    """A level for a legend, as it is drawn."""
    return _swatch(_level_bar(ratio, 12, 12))


def _swatch(bar: str) -> Markup:
    return Markup(f'<svg class="x2l-timeline" width="14" height="12">{bar}</svg>')


def _bar(look: str, bottom: Number, height: Number) -> str:
    return f'<rect {look} y="{bottom - height:.1f}" height="{height:.1f}"/>'


def _level_bar(ratio: int, bottom: Number, most: Number) -> str:
    """A ratio looks the same everywhere: 2x and 32x, the paper's levels, have the colours of both ends."""
    if ratio == DROPPED:
        return _bar('class="dropped"', bottom, 0.3 * most)
    halvings = min(math.log2(ratio), 5)
    gist = max(0, halvings - 1) / 4
    return _bar(f'class="level" style="--gist:{gist:.0%}"', bottom, (1 - 0.14 * halvings) * most)


SCORE, GOLD = _swatch(_bar('class="score"', 12, 12)), _swatch(_bar('class="gold"', 12, 4))
"""The other rows, for a legend."""


def _growing(bounds_s: Sequence[Number] | None, num_chunks: int) -> list[Number]:
    """Bounds of chunks that all have a length; none otherwise."""
    times = list(bounds_s or ())
    return times if len(times) == num_chunks + 1 and all(a < b for a, b in pairwise(times)) else []


def _percent(edge: Number, edges: Sequence[Number]) -> float:
    return 100 * (edge - edges[0]) / (edges[-1] - edges[0])


def _tip(chunk: int, plan: Plan, times: Sequence[Number], tokens: Sequence[int] | None, is_gold: bool) -> str:
    ratio = plan.ratios[chunk]
    when = f": {span(*times[chunk : chunk + 2])}" if times else ""
    cached = f", {tokens[chunk]} tokens" if tokens and ratio != DROPPED else ""
    facts = [f"chunk {chunk}{when}", f"{level(ratio)}{cached}"]
    facts += [f"score {plan.scores[chunk]:.4g}"] if plan.scores else []
    return "\n".join([*facts, *["holds the answer"][:is_gold]])


def _evidence_ratio(ratios: Sequence[int]) -> int | None:
    """That of the chunks in more detail than others; None where all are alike."""
    return min({*ratios} - {DROPPED}) if len({*ratios}) > 1 else None


def _score_shares(scores: Sequence[float]) -> list[float]:
    """Heights, 0..1: the lowest that is finite is just seen, minus infinity is not."""
    finite = [score for score in scores if math.isfinite(score)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    wide = (high - low) or 1.0
    return [0.08 + 0.92 * (s - low) / wide if math.isfinite(s) else float(s > 0) for s in scores]


def _axis(times: Sequence[Number], top: Number, height: Number) -> Iterable[str]:
    first, last = times[0], times[-1]
    step = next((step for step in _TICKS_S if (last - first) / step <= _MOST_TICKS), last - first)
    yield f'<line class="axis" x1="0" x2="100%" y1="{top:g}" y2="{top:g}"/>'
    for number in range(math.ceil(first / step), int(last / step) + 1):
        x = _percent(number * step, times)
        anchor = "start" if x < 3 else "end" if x > 97 else "middle"
        place = f'x="{x:.3f}%" y="{top + height - 4:g}" text-anchor="{anchor}"'
        yield f"<text {place}>{minutes(number * step)}</text>"
