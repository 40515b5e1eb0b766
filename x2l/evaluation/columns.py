"""The columns of the main table: a number of each row, and how it is spelt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """A number of each row, in the order of the rows.

    values: None where a row has none. intervals: lower and upper ends, of accuracies. better: picks the best
    of some values. chance: the accuracy that can be guessed. num: of questions behind it.
    """

    name: str
    values: list[float | None]
    spell: Callable[[float], str]
    better: Callable[..., float] = max
    intervals: list[list[float]] | None = None
    chance: float | None = None
    num: int | None = None

    @property
    def heading(self) -> str:
        return self.name if self.num is None else f"{self.name} ({self.num})"

    def texts(self, intervals: bool = True) -> list[str]:
        """The cells, with the intervals that there are or without."""
        if intervals and self.intervals:
            pairs = zip(self.values, self.intervals, strict=True)
            return [with_interval({"mean": mean, "interval": ends}) for mean, ends in pairs]
        return ["" if value is None else self.spell(value) for value in self.values]

    def is_best(self) -> list[bool]:
        """Which rows are the best; what is spelt alike is alike. None is where all that are known are."""
        known = [value for value in self.values if value is not None]
        best = self.spell(self.better(known)) if known else None
        marked = [value is not None and self.spell(value) == best for value in self.values]
        return [False] * len(marked) if sum(marked) == len(known) else marked


def columns(summary: dict[str, Any]) -> list[Column]:
    """Accuracy by group, the share of the cache that is gone, time to the first token, recall."""
    rows = summary["rows"].values()
    ttft = [row["ttft_ratio"] for row in rows]
    groups = [
        Column(
            group,
            [row["accuracy"][group]["mean"] for row in rows],
            "{:.2f}".format,
            intervals=[row["accuracy"][group]["interval"] for row in rows],
            chance=summary["chance"][group],
            num=num,
        )
        for group, num in summary["num_questions"].items()
    ]
    return [
        *groups,
        Column("cache gone", [100 * row["cache_reduction"]["all"] for row in rows], "{:.1f} %".format),
        Column("TTFT", ttft, "{:.2f}x".format, min),
        Column("speed-up", [None if ratio is None else 1 / ratio for ratio in ttft], "{:.1f}x".format),
        Column("recall", [row["recall"] for row in rows], "{:.2f}".format),
    ]


def with_interval(value: dict[str, Any], digits: int = 2) -> str:
    """A mean and its interval: "0.50 [0.40, 0.60]"."""
    low, high = value["interval"]
    return f"{value['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
