"""Accuracy of every row, one panel per group of questions."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from x2l.evaluation.figures import style


def figure(summary: dict[str, Any]) -> Figure:
    """Bars with 95 % intervals; a thin line is chance."""
    groups, rows = summary["num_questions"], list(summary["rows"])
    drawn, places = style.panels(len(groups), most_across=5, height=0.8 + 0.22 * len(rows))
    first = None
    for place, (group, num) in zip(places, groups.items(), strict=True):
        axes = drawn.add_subplot(place, sharex=first, sharey=first)
        first = first or axes
        _bars(axes, summary, group)
        axes.set_title(f"{group} ({num})")
        axes.tick_params(left=False, labelleft=place.colspan.start == 0)
    first.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", ".5", "1"))
    first.set_yticks(range(len(rows)), rows)
    first.invert_yaxis()
    drawn.supxlabel("accuracy, 95 % interval; thin line: chance", fontsize=style.SMALL)
    return drawn


def _bars(axes: Axes, summary: dict[str, Any], group: str) -> None:
    for i, row in enumerate(summary["rows"].values()):
        mean, interval = row["accuracy"][group]["mean"], row["accuracy"][group]["interval"]
        axes.barh(i, mean, height=0.7, color=style.colour(i))
        axes.plot(interval, (i, i), color="black", linewidth=1)
    axes.axvline(summary["chance"][group], color=style.GREY, linewidth=0.8)
