"""The table as LaTeX, with the best of each column bold; needs the package booktabs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from x2l.evaluation.columns import Column, columns
from x2l.evaluation.exports.scored import scored

_ESCAPED = {
    **{mark: rf"\{mark}" for mark in "&%$#_{}"},
    **{mark: f"{{{mark}}}" for mark in "[*"},  # what the end of the line before would take for its own
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def latex(run: Path, intervals: bool = True) -> str:
    """A tabular environment; intervals stand small behind their numbers."""
    summary = scored(run)
    shown = columns(summary)
    cells = [[escaped(name) for name in summary["rows"]], *(_cells(column, intervals) for column in shown)]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{'r' * len(shown)}}}",
            r"\toprule",
            _line(["", *(escaped(column.heading) for column in shown)]),
            r"\midrule",
            *map(_line, zip(*cells, strict=True)),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text that LaTeX shows as it is."""
    return "".join(_ESCAPED.get(character, character) for character in text)


def _cells(column: Column, intervals: bool) -> list[str]:
    numbers = [
        rf"\textbf{{{escaped(text)}}}" if is_best else escaped(text)
        for text, is_best in zip(column.texts(intervals=False), column.is_best(), strict=True)
    ]
    if not intervals or not column.intervals:
        return numbers
    ends = [f"[{column.spell(low)}, {column.spell(high)}]" for low, high in column.intervals]
    return [rf"{number} {{\scriptsize {each}}}" for number, each in zip(numbers, ends, strict=True)]


def _line(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"
