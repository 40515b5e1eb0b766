"""The table as Markdown."""

from __future__ import annotations

from pathlib import Path

from x2l.evaluation.exports.scored import scored
from x2l.evaluation.table import main_table, markdown


def markdown_table(run: Path, intervals: bool = True) -> str:
    """The main table alone; table.md of a run has its notes and further tables."""
    return "\n".join([*markdown(*main_table(scored(run), intervals)), ""])
