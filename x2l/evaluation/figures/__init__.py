"""Figures of an evaluation, drawn from its summary alone, and of a training, drawn from its logs.

summary -> a Figure per idea -> PNG and SVG.

Every figure is small panels side by side, so that each mark is labelled where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from x2l.evaluation.figures.options import FigureOptions as FigureOptions


def draw(summary: dict[str, Any], out: Path) -> None:
    """Write accuracy and tradeoff, and the figure that the recipe asks for, as .png and .svg."""
    # matplotlib takes a second to import, and most of x2l draws nothing.
    from x2l.evaluation.figures import accuracy, curve, heatmap, storage, style, tradeoff

    on_demand = {"curve": curve.figure, "heatmap": heatmap.figure, "storage": storage.figure}
    figures = {"accuracy": accuracy.figure, "tradeoff": tradeoff.figure}
    if wanted := summary["recipe"].get("figure"):
        figures[wanted["kind"]] = on_demand[wanted["kind"]]
    with style.applied():
        for name, make in figures.items():
            style.save(make(summary), out, name)


def draw_training(steps: Sequence[dict[str, Any]], looks: Sequence[dict[str, Any]], out: Path) -> None:
    """Write training.png and training.svg from the lines of a training's logs, if there are any."""
    from x2l.evaluation.figures import style, training

    if steps:
        with style.applied():
            style.save(training.figure(steps, looks), out, "training")
