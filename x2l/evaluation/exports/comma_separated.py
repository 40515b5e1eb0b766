"""The table as CSV: numbers as they are, a line for each row."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

from x2l.evaluation.columns import columns
from x2l.evaluation.exports.scored import scored


def comma_separated(run: Path, intervals: bool = True) -> str:
    """Six digits of each number; the ends of an interval are columns of their own."""
    summary = scored(run)
    table = [["row", *summary["rows"]]]
    for column in columns(summary):
        table.append([column.name, *map(_number, column.values)])
        if intervals and column.intervals:
            for i, end in enumerate(("low", "high")):
                table.append([f"{column.name} {end}", *(_number(ends[i]) for ends in column.intervals)])
    content = StringIO()
    csv.writer(content, lineterminator="\n").writerows(zip(*table, strict=True))
    return content.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
