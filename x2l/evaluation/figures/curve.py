"""Accuracy over a number in the rows' recipes, one panel per group of questions; below it, recall."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from x2l.evaluation.figures import style
from x2l.evaluation.figures.options import number_at
from x2l.recipe import Recipe

HEIGHT = 1.6
"""Inches of a panel of accuracy."""
LINE_STYLES = ("-", (0, (1, 1)), "-.", (0, (5, 1, 1, 1, 1, 1)))
"""Of the lines; dashes are for rows without the number."""

Line = list[tuple[int | float, str]]
"""(the number, the name of the row), ascending."""


def figure(summary: dict[str, Any]) -> Figure:
    """A line with its 95 % interval per oracle and weighing; rows without the number are dashed ones."""
    over = summary["recipe"]["figure"]["over"]
    lines, others = _lines_and_others(summary, over)
    drawn, places = style.panels(len(summary["num_questions"]), most_across=3, height=HEIGHT + 1.2)
    for place, group in zip(places, summary["num_questions"], strict=True):
        upper, lower = _two_axes(drawn, place)
        _accuracy(upper, summary, group, lines, others)
        _recall(lower, summary, group, lines)
        upper.set_title(group)
        lower.set_xticks(sorted({x for line in lines.values() for x, _ in line}))
    drawn.supxlabel(f"{over}; shaded: 95 % interval; dashed: without it", fontsize=style.SMALL)
    return drawn


def _lines_and_others(summary: dict[str, Any], over: str) -> tuple[dict[str, Line], list[str]]:
    """Rows with the number by oracle and weighing, and the names of those without it."""
    lines: dict[str, Line] = {}
    others = []
    for name, changes in summary["recipe"]["rows"].items():
        recipe = Recipe.from_mapping(summary["recipe"].get("base", {}) | changes)
        x = number_at(recipe.to_mapping(), over)
        if x is None:
            others.append(name)
        else:
            lines.setdefault(_label(recipe), []).append((x, name))
    return {label: sorted(line) for label, line in lines.items()}, others


def _label(recipe: Recipe) -> str:
    return recipe.oracle["name"] + (", weighed" if recipe.proportional.beta else "")


def _two_axes(drawn: Figure, place: SubplotSpec) -> tuple[Axes, Axes]:
    grid = place.subgridspec(2, 1, height_ratios=(3, 1))
    upper = drawn.add_subplot(grid[0])
    lower = drawn.add_subplot(grid[1], sharex=upper)
    upper.tick_params(labelbottom=False)
    for axes, label in ((upper, "accuracy"), (lower, "recall")):
        axes.set(ylim=(0, 1), yticks=(0, 0.5, 1))
        if place.colspan.start == 0:
            axes.set_ylabel(label)
    return upper, lower


def _accuracy(
    axes: Axes, summary: dict[str, Any], group: str, lines: dict[str, Line], others: list[str]
) -> None:
    accuracy = {name: row["accuracy"][group] for name, row in summary["rows"].items()}
    labels = []
    for i, (label, line) in enumerate(lines.items()):
        xs, names = zip(*line, strict=True)
        means = [accuracy[name]["mean"] for name in names]
        lows, highs = zip(*(accuracy[name]["interval"] for name in names), strict=True)
        axes.fill_between(xs, lows, highs, color=style.colour(i), alpha=0.18, linewidth=0)
        _line(axes, xs, means, i)
        labels.append((label, style.colour(i), xs[-1], means[-1]))
    right = max(x for _, _, x, _ in labels)
    for name in others:
        axes.axhline(accuracy[name]["mean"], color=style.GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        labels.append((name, style.GREY, right, accuracy[name]["mean"]))
    axes.set_xlim(axes.get_xlim())
    style.label_beside(axes, HEIGHT, labels)


def _recall(axes: Axes, summary: dict[str, Any], group: str, lines: dict[str, Line]) -> None:
    """Share of the gold chunks that were re-loaded, where the questions have gold chunks."""
    for i, line in enumerate(lines.values()):
        points = [(x, summary["rows"][name]["recall_by_group"][group]) for x, name in line]
        if known := [(x, recall) for x, recall in points if recall is not None]:
            _line(axes, *zip(*known, strict=True), i)
    if not axes.lines:
        axes.text(0.5, 0.5, "no gold chunk", transform=axes.transAxes, ha="center", color=style.GREY)


def _line(axes: Axes, xs: tuple, ys, number: int) -> None:
    axes.plot(
        xs,
        ys,
        color=style.colour(number),
        linestyle=LINE_STYLES[number % len(LINE_STYLES)],
        linewidth=1.4,
        marker="o",
        markersize=3,
        clip_on=False,
    )
