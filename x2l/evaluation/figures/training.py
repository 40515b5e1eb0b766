"""How a training went: its loss, and how many answers are right; dots: held-out questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from x2l.evaluation.figures import style

HEIGHT = 2.8
PARTS = 50
"""A point of a line is the mean of one such part of the run."""

Line = dict[str, int | float]


def figure(steps: Sequence[Line], looks: Sequence[Line]) -> Figure:
    """steps: lines of a log.jsonl, one or more; looks: those of its val.jsonl."""
    drawn, places = style.panels(2, most_across=2, height=HEIGHT)
    loss, right = (drawn.add_subplot(place) for place in places)
    shares = [_shares(line) for line in steps]
    _line(loss, steps, [line["loss"] for line in steps], 0)
    labels = []
    for number, kind in enumerate(dict.fromkeys(kind for share in shares for kind in share)):
        end = _line(right, steps, [share.get(kind, np.nan) for share in shares], number)
        labels.append((kind, style.colour(number), *end))
    for axes, name in ((loss, "val_loss"), (right, "val_accuracy")):
        known = [(look["step"], look[name]) for look in looks if name in look]
        if known:
            axes.plot(
                *zip(*known, strict=True), "o-", color="black", markersize=3, linewidth=0.6, clip_on=False
            )
        axes.set_xlabel("step")
    loss.set_title("loss; dots: held-out questions" if looks else "loss")
    loss.set_ylim(bottom=0)
    right.set_title("share of answers that are right")
    right.set(ylim=(0, 1), yticks=(0, 0.5, 1))
    right.set_xlim(right.get_xlim())
    if labels:
        style.label_beside(right, HEIGHT, labels)
    return drawn


def _shares(line: Line) -> dict[str, float]:
    """Accuracy by kind of question, whatever the shape of the video: the names are "kind/shape"."""
    shares: dict[str, list[float]] = {}
    for name, value in line.items():
        kind, has_shape, _ = name.partition("/")
        if has_shape:
            shares.setdefault(kind, []).append(value)
    return {kind: float(np.mean(values)) for kind, values in shares.items()}


def _line(axes: Axes, steps: Sequence[Line], values: Sequence[float], number: int) -> tuple[float, float]:
    """Means over parts of the run; returns the last point."""
    points = np.array(
        list(_means(np.array([line["step"] for line in steps], float), np.array(values, float)))
    )
    axes.plot(*points.T, color=style.colour(number), linewidth=1.2)
    return tuple(points[-1])


def _means(
    steps: Float[np.ndarray, " lines"], values: Float[np.ndarray, " lines"]
) -> Iterator[tuple[float, float]]:
    known = ~np.isnan(values)
    for part in np.array_split(np.flatnonzero(known), min(PARTS, known.sum())):
        yield steps[part].mean(), values[part].mean()
