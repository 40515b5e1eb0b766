"""The figure that a recipe asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from x2l.config.settings import value_at
from x2l.errors import X2LError
from x2l.recipe import Recipe

WITH_DEPTHS = ("haystack", "v_niah")
"""Data of needles at depths."""


@dataclass(frozen=True)
class FigureOptions:
    """The key `figure` of a recipe."""

    kind: Literal["curve", "heatmap", "storage"]
    """curve: accuracy over a number in the rows' recipes; heatmap: accuracy by length and depth; storage:
    accuracy over the bytes of an index."""
    over: str | None = None
    """That number, by its dotted path in a row's recipe: "selector.k"."""

    def check(self, data_name: str, rows: Mapping[str, Recipe]) -> None:
        """Raise X2LError naming what cannot be drawn of these rows."""
        if self.kind == "heatmap" and data_name not in WITH_DEPTHS:
            raise X2LError(f"figure.kind: a heatmap shows {' or '.join(WITH_DEPTHS)}, got {data_name}")
        if self.kind != "curve":
            if self.over is not None:
                raise X2LError(f"figure.over: expected only with a curve, got {self.over!r}")
        elif self.over is None:
            raise X2LError("figure.over: missing, expected a field of the rows such as selector.k")
        elif all(number_at(row.to_mapping(), self.over) is None for row in rows.values()):
            raise X2LError(f"figure.over: expected a number that some row has, no row has {self.over!r}")


def number_at(mapping: Mapping[str, Any], path: str) -> int | float | None:
    """The number at a dotted path of plain data; None if there is none."""
    value = value_at(mapping, path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
