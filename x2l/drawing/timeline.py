"""The time line of an answer: how relevant each chunk was found, and at which level it was answered from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from x2l.drawing.palette import COLOURS, GREY
from x2l.drawing.words import minutes
from x2l.types import DROPPED, Plan

Number = int | float

HEIGHT, SCORES_END, LEVELS_END, LEVEL_HEIGHT = 124, 66, 104, 30
"""Pixels: of the drawing, where its two rows end, and of the densest level. It is as wide as its page."""
_MOST_TICKS = 9
_TICKS_S = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 36000)

STYLE = f"""
.x2l-timeline text {{ font: 11px system-ui, sans-serif; fill: currentColor; opacity: .7 }}
.x2l-timeline [data-seek] {{ cursor: pointer; outline: none }}
.x2l-timeline .area {{ fill: transparent }}
.x2l-timeline [data-seek]:is(:hover, :focus-visible) .area {{ fill: currentColor; fill-opacity: .1 }}
.x2l-timeline .score {{ fill: {GREY}; fill-opacity: .55 }}
.x2l-timeline :is(.dense, .evidence .score) {{ fill: var(--x2l-dense, {COLOURS[0]}); fill-opacity: 1 }}
.x2l-timeline .between {{ fill: {COLOURS[5]} }}
.x2l-timeline .coarse {{ fill: var(--x2l-coarse, {COLOURS[4]}) }}
.x2l-timeline .dropped {{ fill: none; stroke: {GREY}; stroke-dasharray: 2 2 }}
.x2l-timeline .axis {{ stroke: currentColor; stroke-opacity: .25 }}
"""
"""Where a page is dark, it sets --x2l-dense and --x2l-coarse to lighter colours."""


def timeline(
    plan: Plan, starts_s: Sequence[Number], duration_s: Number, tokens: Sequence[int], ratios: Sequence[int]
) -> str:
    """An SVG of two rows: the chunks' scores, and their levels, the taller the denser.

    What belongs to a chunk has `data-seek`, its start in seconds, and tells its figures when pointed at.
    starts_s: of each chunk, ascending from 0. tokens: of each that are in the cache.
    ratios: of all levels that there are, those of an index.
    """
    ends_s = [*starts_s[1:], duration_s]
    shares = _score_shares(plan)
    chunks = [
        Chunk(number, start_s, end_s, ratio, count, plan.scores[number] if plan.scores else None)
        for number, (start_s, end_s, ratio, count) in enumerate(
            zip(starts_s, ends_s, plan.ratios, tokens, strict=True)
        )
    ]
    least = _evidence_ratio(plan.ratios)
    drawn = [
        _drawn(chunk, duration_s, share, *_level(chunk.ratio, ratios), chunk.ratio == least)
        for chunk, share in zip(chunks, shares, strict=True)
    ]
    return (
        f'<svg class="x2l-timeline" role="group" aria-label="Time line of {len(chunks)} chunks" width="100%" '
        f'height="{HEIGHT}" xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>'
        f"{''.join(drawn)}{'' if plan.scores else _UNSCORED}{''.join(_axis(duration_s))}</svg>"
    )


def legend(plan: Plan, ratios: Sequence[int]) -> list[tuple[str, str]]:
    """Class and words of each level that a plan uses, the densest first."""
    used = sorted({*plan.ratios} - {DROPPED}) + [DROPPED] * (DROPPED in plan.ratios)
    kinds = [_level(ratio, ratios)[0] for ratio in used]
    return [(kind, _WORDS[kind].format(ratio)) for kind, ratio in zip(kinds, used, strict=True)]


_WORDS = {
    "dense": "in detail: L-KVs, {}x",
    "between": "{}x",
    "coarse": "the gist: H-KVs, {}x",
    "dropped": "left out",
}
_UNSCORED = f'<text x="50%" y="{SCORES_END // 2}" text-anchor="middle">no scores</text>'


@dataclass(frozen=True)
class Chunk:
    """What is told of a chunk. score: None if no scores."""

    number: int
    start_s: Number
    end_s: Number
    ratio: int
    tokens: int
    score: float | None

    @property
    def title(self) -> str:
        level = f"{self.ratio}x, {self.tokens} tokens" if self.ratio else "left out"
        score = "" if self.score is None else f"\nscore {self.score:.4g}"
        return f"chunk {self.number}: {minutes(self.start_s)} - {minutes(self.end_s)}\n{level}{score}"


def _drawn(
    chunk: Chunk, duration_s: Number, score_share: Number, kind: str, level_share: Number, is_evidence: bool
) -> str:
    x, width = 100 * chunk.start_s / duration_s, 100 * (chunk.end_s - chunk.start_s) / duration_s
    gap = min(0.12 * width, 0.15)

    def box(kind: str, bottom: Number, height: Number) -> str:
        place = f'x="{x + gap:.3f}%" width="{width - 2 * gap:.3f}%" y="{bottom - height:.1f}"'
        return f'<rect class="{kind}" {place} height="{height:.1f}" rx="1.5"/>'

    score, level = (SCORES_END, SCORES_END * score_share), (LEVELS_END, LEVEL_HEIGHT * level_share)
    return (
        f'<g data-seek="{chunk.start_s:g}" data-chunk="{chunk.number}" role="button" tabindex="0" '
        f'class="{"evidence" if is_evidence else ""}"><title>{chunk.title}</title>'
        f'<rect class="area" x="{x:.3f}%" width="{width:.3f}%" height="{LEVELS_END}"/>'
        f"{box('score', *score)}{box(kind, *level)}</g>"
    )


def _evidence_ratio(ratios: Sequence[int]) -> int | None:
    """That of the chunks in more detail than others; None where all are alike."""
    return min({*ratios} - {DROPPED}) if len({*ratios}) > 1 else None


def _level(ratio: int, ratios: Sequence[int]) -> tuple[str, float]:
    """Class of a level, and how tall it is, 0..1, by its rank among those that there are."""
    if ratio == DROPPED:
        return "dropped", 0.2
    rank, last = sorted(ratios).index(ratio), len(ratios) - 1
    kind = "dense" if rank == 0 else "coarse" if rank == last else "between"
    return kind, 1 - 0.7 * rank / max(last, 1)


def _score_shares(plan: Plan) -> list[float]:
    """Heights of the scores, 0..1: the lowest that is finite is just seen, minus infinity is not."""
    if plan.scores is None:
        return [0.0] * len(plan.ratios)
    finite = [score for score in plan.scores if math.isfinite(score)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    span = (high - low) or 1.0
    return [
        0.06 + 0.94 * (score - low) / span if math.isfinite(score) else float(score > 0)
        for score in plan.scores
    ]


def _axis(duration_s: Number) -> Iterable[str]:
    step = next((step for step in _TICKS_S if duration_s / step <= _MOST_TICKS), duration_s)
    yield f'<line class="axis" x1="0" x2="100%" y1="{SCORES_END}" y2="{SCORES_END}"/>'
    for number in range(int(duration_s / step) + 1):
        x = 100 * number * step / duration_s
        anchor = "start" if not number else "end" if x > 97 else "middle"
        place = f'x="{x:.3f}%" y="{HEIGHT - 4}" text-anchor="{anchor}"'
        yield f"<text {place}>{minutes(number * step)}</text>"
