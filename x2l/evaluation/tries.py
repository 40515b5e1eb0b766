"""Questions that are asked in several tries, such as orders of their options: right if every try is.

Source: VNBench (arXiv 2406.09367), which gives each question four orders of its options.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from x2l.evaluation.labels import by_label
from x2l.evaluation.results import Line
from x2l.evaluation.tally import Tally


def by_question(lines: list[Line]) -> list[Line]:
    """One line of a row for each question, right if all tries at it are.

    One with fewer tries than others of its kind is not right.
    """
    tries: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        tries.setdefault((line["video"], line.get("tries_at") or line["question"]), []).append(line)
    most: Counter[str] = Counter()
    for same in tries.values():
        most[same[0]["kind"]] = max(most[same[0]["kind"]], len(same))
    return [
        same[0] | {"right": len(same) == most[same[0]["kind"]] and all(line["right"] for line in same)}
        for same in tries.values()
    ]


def all_tries(lines: list[Line], groups: list[str]) -> dict[str, Any] | None:
    """Number of questions and accuracy by group, the mean of the groups', and by label.

    None without several tries.
    """
    if not any(line.get("tries_at") for line in lines):
        return None
    questions = by_question(lines)
    tally = Tally(questions)
    return {
        "num_questions": {group: int(tally.counts(group)[1].sum()) for group in groups},
        "accuracy": {group: tally.accuracy(group) for group in groups},
        "macro_accuracy": tally.macro(),
        "by_label": by_label(questions),
    }
