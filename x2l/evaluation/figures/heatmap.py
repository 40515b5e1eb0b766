"""Needles in haystacks: accuracy by length of the video and depth of the needle, one panel per row."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from x2l.evaluation.figures import style

COLOURS = "cividis"
DARK_UP_TO = 0.55
"""Text on cells below this accuracy is white."""


def figure(summary: dict[str, Any]) -> Figure:
    """The number in a cell is its colour; cells that nothing was asked of stay empty.

    Source: Video-X^2L (arXiv 2506.21184), Figure 2.
    """
    rows = {name: row["accuracy_by_depth"] for name, row in summary["rows"].items()}
    lengths = list(next(iter(rows.values())))
    depths = sorted({depth for row in rows.values() for cells in row.values() for depth in cells}, key=int)
    drawn, places = style.panels(len(rows), most_across=3, height=0.9 + 0.3 * len(depths))
    for place, (name, cells) in zip(places, rows.items(), strict=True):
        axes = drawn.add_subplot(place)
        values = [[cells[length].get(depth, np.nan) for length in lengths] for depth in depths]
        _cells(axes, np.array(values, dtype=float))
        axes.set_title(name)
        axes.set_xticks(_middles(lengths), [length.removesuffix(" frames") for length in lengths])
        axes.set_yticks(_middles(depths), depths)
        if place.colspan.start == 0:
            axes.set_ylabel("depth of the needle, %")
    drawn.supxlabel("frames of the video; in the cells: accuracy", fontsize=style.SMALL)
    return drawn


def _middles(cells: list[str]) -> list[float]:
    return [i + 0.5 for i in range(len(cells))]


def _cells(axes: Axes, values: np.ndarray) -> None:
    axes.pcolormesh(values, cmap=COLOURS, vmin=0, vmax=1, edgecolors="white", linewidth=1)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if value < DARK_UP_TO else "black"
            axes.text(
                x + 0.5, y + 0.5, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=style.SMALL
            )
