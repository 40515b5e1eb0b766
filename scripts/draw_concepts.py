"""Draws docs/figures/*.svg, each slot at work on the sample video: python scripts/draw_concepts.py"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sample import DETAIL, GIST, ROOT, Sample, picture, question, save

from x2l import registry
from x2l.chunkers import make_chunker
from x2l.evaluation.figures import style

OUT = ROOT / "docs" / "figures"
RATIOS = (2, 8, 32)
COLOURS = {1: style.GREY, 2: DETAIL, 8: style.COLOURS[2], 32: GIST}
SHOWN = 19
"""The chunk that is looked into: it answers the first question."""
ASKED = ("detail-0", "detail-3", "before-0", "daynight-0")
SELECTORS = ("top_k", "threshold", "knapsack", "uniform")


def chunker(sample: Sample) -> Figure:
    """First frames of the video's scenes, and where two chunkers cut."""
    names = ("fixed", "scenes")
    drawn, axes = rows(["", *names], width=sample.video.num_frames / 10, height=1.25)
    for clip in sample.clips:
        picture(axes, clip.frames[0], clip.first_frame / 10 + 0.04, -0.96, 0.92)
    for row, name in enumerate(names, start=1):
        start = 0
        for i, length in enumerate(make_chunker(name).lengths(sample.video, sample.pipeline.backbone)):
            cell(axes, start / 10, row, length / 10, (DETAIL, GIST)[i % 2], gap=0)
            start += length
    return drawn


def backbone(sample: Sample) -> Figure:
    """Frames of a chunk, and below each the tokens that the language model reads."""
    clip = sample.clips[SHOWN]
    with torch.no_grad():
        frames = sample.pipeline.backbone.read(SHOWN, clip, 0).tokens_by_step().float().numpy()
    side = round(frames.shape[1] ** 0.5)
    colours = as_colours(frames.reshape(-1, frames.shape[-1])).reshape(-1, side, side, 3)
    drawn, axes = rows(["frames", f"{side} x {side}\ntokens each"], width=len(frames), height=1.9)
    for i, (frame, tokens) in enumerate(zip(clip.frames, colours, strict=True)):
        picture(axes, frame, i + 0.04, -0.96, 0.92)
        axes.imshow(tokens, extent=(i + 0.04, i + 0.96, -1.96, -1.04), interpolation="nearest")
    return drawn


def as_colours(tokens: Float[np.ndarray, "tokens hidden"]) -> Float[np.ndarray, "tokens 3"]:
    """Their first three principal components, as red, green and blue."""
    centred = tokens - tokens.mean(axis=0)
    parts = centred @ np.linalg.svd(centred, full_matrices=False)[2][:3].T
    return np.clip(0.5 + parts / (4 * parts.std(axis=0)), 0, 1)


def compressor(sample: Sample) -> Figure:
    """A chunk's tokens at each level; a cell is as wide as the tokens that it stands for are many."""
    chunk = sample.index.chunks[SHOWN]
    num = chunk.num_visual_tokens
    levels = {1: np.ones(num)} | {
        ratio: chunk.levels[ratio].materialise().counts.numpy() for ratio in sample.index.ratios
    }
    names = [f"{ratio}x: {len(counts)} tokens" for ratio, counts in levels.items()]
    drawn, axes = rows(names, width=num, height=1.6)
    for row, (ratio, counts) in enumerate(levels.items()):
        for start, count in zip(np.cumsum(counts) - counts, counts, strict=True):
            cell(axes, start, row, count, COLOURS[ratio], gap=0.3)
    return drawn


def oracle(sample: Sample) -> Figure:
    """Scores of some questions, and where their answers are seen."""
    asked = [question(name) for name in ASKED]
    drawn, axes = rows([], width=len(sample.clips), height=2.9)
    for row, each in enumerate(asked):
        scores = np.array(sample.pipeline.plan(each, sample.index).scores)
        shares = (scores - scores.min()) / np.ptp(scores)
        axes.text(0, -1.65 * row - 0.25, f"{each.text} ({each.answer})", fontsize=style.SMALL)
        for i, share in enumerate(shares):
            chunk = sample.index.chunks[i]
            spans = each.gold_spans_s or ()
            is_gold = any(start <= chunk.start_s < end for start, end in spans)
            edge = {"ec": style.COLOURS[1], "lw": 2} if is_gold else {"lw": 0}
            axes.add_patch(Rectangle((i + 0.05, -1.65 * row - 1.2), 0.9, 0.8, fc=DETAIL, alpha=share, lw=0))
            axes.add_patch(Rectangle((i + 0.05, -1.65 * row - 1.2), 0.9, 0.8, fill=False, **edge))
    axes.set_ylim(-1.65 * len(asked) + 0.3, 0.3)
    return drawn


def selector(sample: Sample) -> Figure:
    """Plans of some selectors for one question, and the tokens that each loads."""
    pipeline, index, asked = sample.pipeline, sample.index, question(ASKED[0])
    plan = pipeline.plan(asked, index)
    drawn, axes = rows(["score", *SELECTORS], width=len(index.chunks) + 3, height=2.1)
    scores = np.array(plan.scores)
    for i, share in enumerate((scores - scores.min()) / np.ptp(scores)):
        axes.add_patch(Rectangle((i + 0.05, -0.95), 0.9, 0.05 + 0.85 * share, color=style.GREY, lw=0))
    for row, name in enumerate(SELECTORS, start=1):
        chosen = registry.build("selector", name).choose(torch.tensor(plan.scores), index)
        for i, ratio in enumerate(chosen.ratios):
            cell(axes, i, row, 1, COLOURS[ratio], gap=0.1)
        total = sum(index.planned_tokens(chosen))
        axes.text(len(index.chunks) + 0.3, -row - 0.5, f"{total} tokens", va="center")
    return drawn


def cache(sample: Sample) -> Figure:
    """The tokens that the question attends to, to scale and in temporal order."""
    index, low = sample.index, sample.index.ratios[0]
    plan = sample.pipeline.plan(question(ASKED[0]), index)
    caches = {
        "uncompressed": [(1, chunk.num_visual_tokens) for chunk in index.chunks],
        f"all at {low}x": [(low, chunk.levels[low].num_tokens) for chunk in index.chunks],
        "hybrid": list(zip(plan.ratios, index.planned_tokens(plan), strict=True)),
    }
    names = [f"{name}: {sum(num for _, num in each):,}" for name, each in caches.items()]
    drawn, axes = rows(names, width=index.num_visual_tokens, height=1.3)
    for row, each in enumerate(caches.values()):
        start = 0
        for ratio, num in each:
            cell(axes, start, row, num, COLOURS[ratio], gap=1.5)
            start += num
    return drawn


def rows(names: Sequence[str], width: float, height: float) -> tuple[Figure, Axes]:
    """Axes of rows that are 1 high, the first from 0 down to -1, with their names on the left."""
    drawn = Figure((style.WIDTH, height), layout="none")
    left = 0.15 if names else 0.01
    axes = drawn.add_axes((left, 0.02, 0.99 - left, 0.96))
    axes.axis("off")
    axes.set(xlim=(0, width), ylim=(-max(1, len(names)), 0), aspect="auto")
    for row, name in enumerate(names):
        axes.text(-0.01 * width, -row - 0.5, name, ha="right", va="center")
    return drawn, axes


def cell(axes: Axes, left: float, row: int, width: float, colour: str, gap: float) -> None:
    axes.add_patch(Rectangle((left + gap / 2, -row - 0.9), width - gap, 0.8, color=colour, lw=0))


FIGURES = (chunker, backbone, compressor, oracle, selector, cache)


def draw(sample: Sample, out: Path = OUT) -> None:
    out.mkdir(exist_ok=True)
    with style.applied():
        for figure in FIGURES:
            save(figure(sample), out / f"{figure.__name__}.svg")


if __name__ == "__main__":
    draw(Sample.read({"ratios": RATIOS}))
