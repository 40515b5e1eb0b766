"""Draws docs/timeline.svg, a question on the sample video: python scripts/draw_timeline.py"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sample import DETAIL, GIST, ROOT, Sample, picture, question, save

from x2l.evaluation.figures import style
from x2l.types import Answer

OUT = ROOT / "docs" / "timeline.svg"
ASKED = question("detail-0")
LEFT, RIGHT, BOTTOM, TOP = -2.3, 22.2, -1.7, 9.5
"""Edges of the picture; a unit is the width of a chunk."""
SIDE, LARGE, STRIP, SCORES, CACHE = 2.9, 5.7, 4.0, 2.1, 0.0
"""Width of a large picture, and the lower edge of each row."""
BAR = 1.5
"""Height of the highest bar."""


def draw(sample: Sample, out: Path = OUT) -> Answer:
    """Rows, from above: question and answer, re-loaded chunks, all chunks, their scores, the cache."""
    answer = sample.pipeline.ask(sample.index, ASKED)
    with style.applied():
        figure = Figure((style.WIDTH, style.WIDTH * (TOP - BOTTOM) / (RIGHT - LEFT)), layout="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        _say(axes, 0, TOP - 0.45, f"“{ASKED.text}”", fontsize=11)
        _reloaded(axes, sample, answer)
        _chunks(axes, sample, answer)
        _legend(axes, sample)
        axes.set(xlim=(LEFT, RIGHT), ylim=(BOTTOM, TOP), aspect="equal")
        save(figure, out)
    return answer


def _reloaded(axes: Axes, sample: Sample, answer: Answer) -> None:
    """The chunks that are re-loaded in detail, in large, each with a line to its place."""
    num = len(sample.clips)
    middles = np.array([(span.chunk + 0.5) / num for span in answer.evidence])
    for span, middle in zip(
        answer.evidence, num * style.spread_out(middles, (SIDE + 0.4) / num), strict=True
    ):
        picture(axes, sample.clips[span.chunk].frames[0], middle - SIDE / 2, LARGE, SIDE, DETAIL)
        axes.plot((middle, span.chunk + 0.5), (LARGE, STRIP + 1), color=DETAIL, lw=0.8)
    _say(axes, 0, 7.8, f"“{answer.text}”", fontsize=20, weight="bold")
    _say(axes, 0, 6.7, f"{len(answer.evidence)} of {num} chunks in detail,")
    _say(axes, 0, 6.15, f"{answer.cache_reduction:.0%} of the KV cache gone")


def _chunks(axes: Axes, sample: Sample, answer: Answer) -> None:
    """A column for each chunk: first frame, score, tokens in the cache."""
    scores, most = np.array(answer.plan.scores), max(answer.kv_tokens_per_chunk)
    shares = (scores - scores.min()) / np.ptp(scores)
    reloaded = {span.chunk for span in answer.evidence}
    for i, (clip, tokens) in enumerate(zip(sample.clips, answer.kv_tokens_per_chunk, strict=True)):
        is_detail = i in reloaded
        picture(axes, clip.frames[0], i + 0.03, STRIP, 0.94, DETAIL if is_detail else None)
        _bar(axes, i, SCORES, shares[i], DETAIL if is_detail else style.GREY)
        _bar(axes, i, CACHE, tokens / most, DETAIL if is_detail else GIST)
        _say(axes, i + 0.5, -0.4, str(tokens), ha="center", fontsize=7)
    for y, text in ((STRIP, "chunks\nof 10 s"), (SCORES, "oracle's\nscore"), (CACHE, "tokens in\nthe cache")):
        _say(axes, -0.2, y + 0.5, text, ha="right")


def _legend(axes: Axes, sample: Sample) -> None:
    low, *higher = sample.index.ratios
    for x, colour, text in (
        (0, DETAIL, f"L-KVs: detail, {low} tokens become one"),
        (8, GIST, f"H-KVs: the gist, {' or '.join(map(str, higher))} become one"),
    ):
        axes.add_patch(Rectangle((x + 0.12, -1.4), 0.5, 0.5, color=colour, lw=0))
        _say(axes, x + 0.85, -1.15, text)


def _bar(axes: Axes, chunk: int, bottom: float, share: float, colour: str) -> None:
    axes.add_patch(Rectangle((chunk + 0.12, bottom), 0.76, max(0.05, share) * BAR, color=colour, lw=0))


def _say(axes: Axes, x: float, y: float, text: str, **how) -> None:
    axes.text(x, y, text, **({"va": "center", "fontsize": 8.5, "linespacing": 1.1} | how))


if __name__ == "__main__":
    draw(Sample.read())
