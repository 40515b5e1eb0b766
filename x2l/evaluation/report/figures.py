"""The figures of a report: panels, one for each group of questions, with marks that can be pointed at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from x2l.drawing.palette import COLOURS, colour
from x2l.evaluation.columns import with_interval

WIDTH = 1140
"""Pixels of the page."""
LINE, LETTER = 20, 6.6
"""Pixels of a line of text, and of a letter at most."""
TITLE, TICKS, GAP = 28, 24, 46
"""Pixels over a panel, under it and to the next one."""


@dataclass(frozen=True)
class Mark:
    """Accuracy of a row with its interval, and where it stands along the other axis; all 0..1."""

    row: int
    accuracy: float
    interval: list[float]
    at: float
    tip: str


@dataclass(frozen=True)
class Panel:
    """One group of questions; left and top: pixels, of what is drawn in."""

    title: str
    left: float
    top: int
    chance: float
    marks: list[Mark]


@dataclass(frozen=True)
class Figure:
    """Panels of equal size in pixels. Accuracy goes up in them, or else to the right, beside rows' names."""

    panels: list[Panel]
    panel_width: int
    panel_height: int
    goes_up: bool

    @property
    def width(self) -> float:
        return max(panel.left for panel in self.panels) + self.panel_width + GAP / 2

    @property
    def height(self) -> int:
        return max(panel.top for panel in self.panels) + self.panel_height + TICKS

    @property
    def lefts_tops(self) -> list[tuple[float, int]]:
        """Where the first panel of each line of panels begins."""
        return sorted({(self.panels[0].left, panel.top) for panel in self.panels})


def accuracy(summary: dict[str, Any]) -> Figure:
    """Accuracy to the right, rows from top to bottom."""
    num_rows, beside = len(summary["rows"]), 24 + LETTER * max(map(len, summary["rows"]))
    height, most_across = LINE * num_rows, max(2, int((WIDTH + GAP / 2 - beside) // (120 + GAP)))
    panels = _panels(summary, lambda i, group: (i + 0.5) / num_rows, beside, 120, height, most_across)
    return Figure(panels, 120, height, goes_up=False)


def tradeoff(summary: dict[str, Any]) -> Figure:
    """Accuracy upwards, the share of the cache that is gone to the right."""
    rows = list(summary["rows"].values())
    panels = _panels(summary, lambda i, group: rows[i]["cache_reduction"][group], 36.0, 320, 230, 3)
    return Figure(panels, 320, 230, goes_up=True)


def look(row: int) -> dict[str, Any]:
    """Colour and shape of a row's mark; rows of one colour differ in their shape."""
    return {"colour": colour(row), "shape": row // len(COLOURS)}


def _panels(
    summary: dict[str, Any],
    at: Callable[[int, str], float],
    beside: float,
    width: int,
    height: int,
    most_across: int,
) -> list[Panel]:
    """The groups line by line; at: where the row of a number stands in a group."""
    return [
        Panel(
            f"{group} ({num})",
            beside + (width + GAP) * (place % most_across),
            TITLE + (TITLE + height + TICKS) * (place // most_across),
            summary["chance"][group],
            [_mark(summary, i, group, at(i, group)) for i in range(len(summary["rows"]))],
        )
        for place, (group, num) in enumerate(summary["num_questions"].items())
    ]


def _mark(summary: dict[str, Any], number: int, group: str, at: float) -> Mark:
    name, row = list(summary["rows"].items())[number]
    measured, gone = row["accuracy"][group], row["cache_reduction"][group]
    told = f"{group}: {with_interval(measured)}, n = {summary['num_questions'][group]}"
    tip = f"{name}\n{told}\n{100 * gone:.1f} % of the cache gone"
    return Mark(number, measured["mean"], measured["interval"], at, tip)
