"""Right answers of one row, counted by video, so that intervals can resample videos."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float

from x2l.evaluation import bootstrap
from x2l.evaluation.results import Line
from x2l.items import NEEDLE

ALL = "all"
"""The group that every question belongs to."""


class Tally:
    """Right answers and questions of one row, by group and video."""

    def __init__(self, lines: list[Line]):
        self.lines = lines
        self.videos = {video: i for i, video in enumerate(dict.fromkeys(line["video"] for line in lines))}
        self.weights = bootstrap.draw(len(self.videos))

    def accuracy(self, group: str) -> dict[str, Any]:
        right, asked = self.counts(group)
        samples = bootstrap.ratios(self.weights, right, asked)
        return {"mean": float(right.sum() / asked.sum()), "interval": bootstrap.interval(samples)}

    def macro(self) -> dict[str, Any]:
        """The mean of the groups' accuracies, whatever their sizes; of a resample, of the groups in it."""
        counts = [self.counts(group) for group in dict.fromkeys(line["group"] for line in self.lines)]
        samples = np.nanmean([bootstrap.ratios(self.weights, *pair) for pair in counts], axis=0)
        mean = fmean(float(right.sum() / asked.sum()) for right, asked in counts)
        return {"mean": mean, "interval": bootstrap.interval(samples)}

    def minus(self, other: Tally, group: str) -> dict[str, Any]:
        """The difference of accuracies, paired: both rows were asked the same questions."""
        (right, asked), (other_right, _) = self.counts(group), other.counts(group)
        samples = bootstrap.ratios(self.weights, right - other_right, asked)
        mean = float((right - other_right).sum() / asked.sum())
        return {"mean": mean, "interval": bootstrap.interval(samples)}

    def by_depth(self) -> dict[str, dict[str, float]]:
        """Accuracy by group, which is the length of a haystack, and depth of the needle in percent."""
        cells: dict[str, dict[str, list[bool]]] = {}
        for line in self.lines:
            if line["kind"] == NEEDLE:
                depth = line["question"].removeprefix(f"{NEEDLE}-")
                cells.setdefault(line["group"], {}).setdefault(depth, []).append(line["right"])
        return {group: {depth: fmean(right) for depth, right in row.items()} for group, row in cells.items()}

    def counts(self, group: str) -> tuple[Float[np.ndarray, " videos"], Float[np.ndarray, " videos"]]:
        """Right answers and questions of each video."""
        right, asked = np.zeros(len(self.videos)), np.zeros(len(self.videos))
        for line in of_group(self.lines, group):
            right[self.videos[line["video"]]] += line["right"]
            asked[self.videos[line["video"]]] += 1
        return right, asked


def of_group(lines: list[Line], group: str) -> list[Line]:
    """The lines about the questions of a group, or of a kind where no group has that name."""
    if group == ALL:
        return lines
    name = "group" if any(line["group"] == group for line in lines) else "kind"
    return [line for line in lines if line[name] == group]
