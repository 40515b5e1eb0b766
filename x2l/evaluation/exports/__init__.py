"""Results in the formats of other programs, a file for each format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from x2l.evaluation.exports.comma_separated import comma_separated
from x2l.evaluation.exports.latex import latex
from x2l.evaluation.exports.lmms_samples import lmms_samples
from x2l.evaluation.exports.markdown_table import markdown_table

FORMATS: Mapping[str, Callable[[Path, bool], str]] = {
    "csv": comma_separated,
    "latex": latex,
    "markdown": markdown_table,
    "lmms": lmms_samples,
}
"""By name: from the folder of a run, and whether intervals are wanted, to the text of a file."""
