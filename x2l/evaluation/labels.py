"""What a question counts under beside its group, such as the skills that it takes: accuracy by label."""

from __future__ import annotations

from typing import Any

from x2l.evaluation.results import Line
from x2l.evaluation.tally import ALL, Tally


def by_label(lines: list[Line]) -> dict[str, dict[str, Any]]:
    """Of each label: number of questions, accuracy over these, and the mean of its groups' accuracies.

    A question counts under each of its labels. Results of earlier versions have none.
    """
    labelled: dict[str, list[Line]] = {}
    for line in lines:
        for label in dict.fromkeys(line.get("labels", ())):
            labelled.setdefault(label, []).append(line)
    return {label: _summed_up(of_label) for label, of_label in labelled.items()}


def _summed_up(lines: list[Line]) -> dict[str, Any]:
    tally = Tally(lines)
    return {
        "num_questions": len(lines),
        "accuracy": tally.accuracy(ALL),
        "macro_accuracy": tally.macro(),
    }
