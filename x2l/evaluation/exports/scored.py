"""The summary of a run that has a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from x2l.errors import X2LError
from x2l.evaluation.summary import answered, summary_of


def scored(run: Path) -> dict[str, Any]:
    """Raises X2LError if there is none: no question is answered, or none has a right answer."""
    summary = summary_of(run, answered(run))
    if "rows" not in summary:
        raise X2LError(f"{run}: no question has a right answer, expected one; lmms has what was said")
    return summary
