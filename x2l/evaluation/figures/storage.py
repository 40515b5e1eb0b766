"""Accuracy against the bytes that an index takes: one point per row, one panel per group of questions."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure

from x2l.evaluation.figures import tradeoff


def figure(summary: dict[str, Any]) -> Figure:
    """Accuracy with 95 % intervals over the mean megabytes of a video's index."""
    megabytes = [row["index_bytes"] / 1e6 for row in summary["rows"].values()]
    most = math.ceil(max(megabytes) / 2) * 2.0
    return tradeoff.over(summary, lambda row, group: row["index_bytes"] / 1e6, most, "index, MB a video")
