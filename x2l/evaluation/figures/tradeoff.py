"""Accuracy against the cache that it costs: one point per row, one panel per group of questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from x2l.evaluation.figures import style

AROUND = 0.55
"""Inches that the title and the ticks of a panel take."""

Cost = Callable[[dict[str, Any], str], float]
"""What a row of a summary costs for a group of questions."""


def figure(summary: dict[str, Any]) -> Figure:
    """Accuracy with 95 % intervals over the share of the uncompressed cache that is gone."""
    return over(summary, lambda row, group: 100 * row["cache_reduction"][group], 100.0, "cache gone, %")


def over(summary: dict[str, Any], cost: Cost, most: float, label: str) -> Figure:
    """Accuracy with 95 % intervals over a cost from 0 to `most`."""
    height = max(1.6, style.LINE_HEIGHT * len(summary["rows"]))
    drawn, places = style.panels(len(summary["num_questions"]), most_across=3, height=height + AROUND)
    for place, group in zip(places, summary["num_questions"], strict=True):
        axes = drawn.add_subplot(place)
        axes.axhline(summary["chance"][group], color=style.GREY, linewidth=0.6, linestyle=":")
        axes.set(title=group, xlim=(-most / 25, most * 1.04), ylim=(0, 1), yticks=(0, 0.5, 1))
        axes.set_xticks((0, most / 2, most))
        _points(axes, height, summary, group, cost)
        if place.colspan.start == 0:
            axes.set_ylabel("accuracy")
    drawn.supxlabel(f"{label}; upright lines: 95 % interval; dotted: chance", fontsize=style.SMALL)
    return drawn


def _points(axes: Axes, height: float, summary: dict[str, Any], group: str, cost: Cost) -> None:
    labels = []
    for i, (name, row) in enumerate(summary["rows"].items()):
        x, y = cost(row, group), row["accuracy"][group]["mean"]
        axes.plot((x, x), row["accuracy"][group]["interval"], color=style.colour(i), linewidth=0.8)
        axes.plot(x, y, "o", color=style.colour(i), markersize=4, clip_on=False)
        labels.append((name, style.colour(i), x, y))
    style.label_beside(axes, height, labels)
