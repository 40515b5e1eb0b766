"""Two runs side by side, on the questions that both have answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from x2l.errors import X2LError
from x2l.evaluation.columns import with_interval
from x2l.evaluation.results import RUN, Line, counted
from x2l.evaluation.table import markdown, signed
from x2l.evaluation.tally import ALL, Tally
from x2l.storage.files import read_json

Pair = tuple[str, str]
"""A row of the one run, and a row of the other."""


def compare_runs(one: Path, other: Path, rows: Pair | None = None) -> dict[str, Any]:
    """Accuracy of rows of two runs and what the other gains, with 95 % intervals that resample videos.

    rows: which to compare; None: those of the same name, or the only ones. Only the same question about the
    same bytes, with a right answer, counts.

    Returns runs, num_left_out (questions that one of them lacks), and rows: each with its pair of names, and
    by group num_questions, accuracy of both, difference (other - one).
    Raises X2LError if there is nothing to compare, or a folder holds no run.
    """
    pairs = [rows] if rows else _alike(one, other)
    of_one, of_other = _by_row(one), _by_row(other)
    compared, left_out = [], set()
    for pair in pairs:
        answers = _answers(of_one, pair[0], one), _answers(of_other, pair[1], other)
        both = [asked for asked in answers[0] if asked in answers[1]]
        left_out |= answers[0].keys() ^ answers[1].keys()
        if not both:
            raise X2LError(f"{other}: {pair[1]} has answered no question of {pair[0]} of {one}, expected one")
        lines = ([each[asked] for asked in both] for each in answers)
        compared.append({"names": list(pair), "groups": _by_group(*map(Tally, lines))})
    return {"runs": [str(one), str(other)], "num_left_out": len(left_out), "rows": compared}


def _alike(one: Path, other: Path) -> list[Pair]:
    """Rows of the same name; the only row of each has the same, whatever it is called."""
    names, others = (list(read_json(run / RUN)["recipe"]["rows"]) for run in (one, other))
    if len(names) == len(others) == 1:
        return [(names[0], others[0])]
    if same := [(name, name) for name in names if name in others]:
        return same
    raise X2LError(
        f"{other}: has no row of {one}, expected rows to compare: one of {', '.join(names)} "
        f"and one of {', '.join(others)}"
    )


def _by_row(run: Path) -> dict[str, dict[str, Line]]:
    """Scored answers of each row, by what was asked."""
    rows: dict[str, dict[str, Line]] = {}
    for line in counted(run):
        if line["right"] is not None:
            rows.setdefault(line["row"], {})[line["asked"]] = line
    return rows


def _answers(rows: dict[str, dict[str, Line]], name: str, run: Path) -> dict[str, Line]:
    if name not in rows:
        raise X2LError(f"{run}: has no answers of a row {name!r}, expected one of {', '.join(rows)}")
    return rows[name]


def _by_group(one: Tally, other: Tally) -> dict[str, dict[str, Any]]:
    groups = [*dict.fromkeys(line["group"] for line in one.lines), ALL]
    return {
        group: {
            "num_questions": int(one.counts(group)[1].sum()),
            "accuracy": [one.accuracy(group), other.accuracy(group)],
            "difference": other.minus(one, group),
        }
        for group in groups
    }


def table_of(compared: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    one, other = compared["runs"]
    rows = [
        [
            " / ".join(dict.fromkeys(row["names"])),
            f"{group} ({each['num_questions']})",
            *map(with_interval, each["accuracy"]),
            signed(each["difference"]),
        ]
        for row in compared["rows"]
        for group, each in row["groups"].items()
    ]
    left_out = compared["num_left_out"]
    told = f"Left out: {left_out} questions that only one of the two has answered."
    return "\n".join(
        [
            *markdown(["row", "group", one, other, "difference"], rows),
            "",
            "[95 % intervals] resample videos; differences are paired.",
            *[told][:left_out],
        ]
    )
