"""How figures look and how they are saved: fixed sizes and colours, and the same bytes every time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from x2l.drawing.palette import COLOURS as COLOURS
from x2l.drawing.palette import GREY as GREY
from x2l.drawing.palette import colour as colour
from x2l.storage.files import write_bytes

WIDTH = 9.0
"""Inches, of every figure: text then has one size on a page that scales figures to its width."""
SMALL = 8
"""Points of text inside a panel."""
LINE_HEIGHT = 1.25 * SMALL / 72
"""Inches that a line of such text takes."""
LINE_END = 1.06
"""Where the line to a label ends, in widths of the panel."""

_SETTINGS = {
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "font.size": 8.5,
    "svg.hashsalt": "x2l",  # names inside the file follow from its content, not from chance
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
_METADATA = {"png": {"Software": None}, "svg": {"Date": None}}


@contextmanager
def applied() -> Iterator[None]:
    """The settings of matplotlib that all figures are made and saved under, whatever the user's own are."""
    with matplotlib.style.context(_SETTINGS, after_reset=True):
        yield


def save(figure: Figure, out: Path, name: str) -> None:
    """Write name.png and name.svg, each complete or not at all; what is there already stays as it is."""
    for suffix, metadata in _METADATA.items():
        content = BytesIO()
        figure.savefig(content, format=suffix, metadata=metadata)
        path = out / f"{name}.{suffix}"
        if not path.is_file() or path.read_bytes() != content.getvalue():
            write_bytes(path, content.getvalue())


def panels(num: int, most_across: int, height: float) -> tuple[Figure, list[SubplotSpec]]:
    """A figure with `num` places of `height` inches in an even grid, row by row."""
    down = math.ceil(num / most_across)
    across = math.ceil(num / down)
    figure = Figure(figsize=(WIDTH, down * height))
    grid = figure.add_gridspec(down, across)
    return figure, list(islice((grid[i, j] for i in range(down) for j in range(across)), num))


Label = tuple[str, str, int | float, int | float]
"""Text, colour, x and y of the point that it belongs to."""


def label_beside(axes: Axes, height: float, labels: Sequence[Label]) -> None:
    """Labels in a column to the right of a panel, each with a line from its point; no two lines cross.

    height: of the panel in inches, whose limits must be set; y goes from 0 to 1.
    """
    starts = np.array([axes.transLimits.transform((x, y)) for *_, x, y in labels])
    label_ys = uncrossed(starts, spread_out(starts[:, 1], LINE_HEIGHT / height), LINE_END)
    for (text, own_colour, *_), start, label_y in zip(labels, starts, label_ys.tolist(), strict=True):
        ends = zip(start, (LINE_END, label_y), strict=True)
        axes.plot(*ends, transform=axes.transAxes, color=own_colour, linewidth=0.6, clip_on=False)
        axes.text(LINE_END + 0.02, label_y, text, transform=axes.transAxes, fontsize=SMALL, va="center")


def uncrossed(
    starts: Float[np.ndarray, "lines 2"], end_ys: Float[np.ndarray, " lines"], end_x: float
) -> Float[np.ndarray, " lines"]:
    """Heights where lines end, exchanged until none cross: of two that do, the exchanged ones are shorter."""
    lengths = np.hypot(end_x - starts[:, :1], end_ys - starts[:, 1:])  # of each line, to each end
    ends = np.arange(len(starts))
    while True:
        now = lengths[np.arange(len(ends)), ends]
        exchanged = lengths[:, ends]
        gains = now[:, None] + now - exchanged - exchanged.T
        i, j = np.unravel_index(gains.argmax(), gains.shape)
        if gains[i, j] < 1e-9:
            return end_ys[ends]
        ends[[i, j]] = ends[[j, i]]


def spread_out(values: Float[np.ndarray, " labels"], gap: float) -> Float[np.ndarray, " labels"]:
    """Values moved apart until they differ by `gap`, each staying near, inside 0..1 while there is room."""
    order, steps = np.argsort(values, kind="stable"), gap * np.arange(len(values))
    offsets = values[order] - steps
    pushed_up, pushed_down = np.maximum.accumulate(offsets), np.minimum.accumulate(offsets[::-1])[::-1]
    placed = np.empty_like(values)
    placed[order] = np.clip((pushed_up + pushed_down) / 2, 0, max(0, 1 - steps[-1])) + steps
    return placed
