"""A summary as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import combinations
from typing import Any, NamedTuple

from x2l.broken import passed_over
from x2l.evaluation.columns import columns, with_interval
from x2l.evaluation.tally import ALL

MOST_KINDS = 12
"""Columns that a page has room for."""


class Table(NamedTuple):
    """A table of texts: its head, and rows of as many cells."""

    head: list[str]
    rows: list[list[str]]


def table(summary: dict[str, Any]) -> str:
    """The main table with its notes, claims, and further tables, as Markdown."""
    claims = claims_table(summary["claims"])
    return "\n".join(
        [
            *markdown(*main_table(summary)),
            "",
            *notes(summary),
            "",
            f"Recipe {summary['recipe_hash'][:12]}, {commit_of(summary)}, {summary['date']}, "
            f"{', '.join(summary['devices'])}",
            "",
            *_spaced(tables_of_tries(summary)),
            *([*claims, ""] if claims else []),
            *_spaced(further_tables(summary)),
        ]
    )


def main_table(summary: dict[str, Any], intervals: bool = True) -> Table:
    """Rows by groups, with their intervals or without, what is left of the cache, time and recall; chance."""
    shown = columns(summary)
    rows = [
        list(row) for row in zip(summary["rows"], *(column.texts(intervals) for column in shown), strict=True)
    ]
    chance = ["" if column.chance is None else column.spell(column.chance) for column in shown]
    return Table(["row", *(column.heading for column in shown)], [*rows, ["chance", *chance]])


def tables_of_tries(summary: dict[str, Any]) -> list[Table]:
    """Accuracy where a question counts if every try at it is right; none where each has one try."""
    tries = {name: row["all_tries"] for name, row in summary["rows"].items()}
    if None in tries.values():
        return []
    by_label = {name: each["by_label"] for name, each in tries.items()}
    return [_all_tries(tries), *_by_label("all tries right", by_label)]


def further_tables(summary: dict[str, Any]) -> list[Table]:
    """Accuracy by kind and by label, sizes of indices and paired differences, where there are any."""
    by_label = {name: row["accuracy_by_label"] for name, row in summary["rows"].items()}
    return [*_by_kind(summary), *_by_label("by label", by_label), *_sizes(summary), *_differences(summary)]


def notes(summary: dict[str, Any]) -> list[str]:
    """How to read the main table, and what it leaves out."""
    return [
        f"{summary['num_videos']} videos, the same questions in every row. [95 % intervals] resample videos "
        f"({summary['num_resamples']} resamples, seed {summary['seeds']['bootstrap']}).",
        "Cache gone: mean share of the uncompressed visual KV tokens that is not in the cache.",
        "An interval without width: no two videos differ, so it says nothing about others.",
        f"TTFT: median time to the first token (score, assemble, first token) against {summary['ttft_row']}.",
        "Speed-up: one over that.",
        "Recall: share of the gold chunks that were re-loaded in detail.",
        "Chance: the most frequent answer to each kind of question, or one that the question names or shows.",
        *_partly_timed(summary),
        *_over_groups(summary),
        *_unclear(summary["rows"]),
        *left_out(summary),
    ]


def _partly_timed(summary: dict[str, Any]) -> list[str]:
    """Rows whose time is that of some questions, or of none."""
    num = summary["num_questions"][ALL]
    counts = {name: row.get("ttft_questions", num) for name, row in summary["rows"].items()}
    fewer = [f"{name} ({count} of {num})" for name, count in counts.items() if count < num]
    text = f"TTFT only of questions answered in the same session as by {summary['ttft_row']}"
    return [f"{text}: {', '.join(fewer)}."] if fewer else []


def _over_groups(summary: dict[str, Any]) -> list[str]:
    """The mean of the groups' accuracies, where there are several."""
    means = [f"{row['macro_accuracy']['mean']:.3f} ({name})" for name, row in summary["rows"].items()]
    return [f"Mean of the groups: {', '.join(means)}."] if len(summary["num_questions"]) > 2 else []


def _unclear(rows: dict[str, Any]) -> list[str]:
    counted = [f"{row['num_unclear']} ({name})" for name, row in rows.items() if row["num_unclear"]]
    text = "Unclear, and so wrong: answers that name none of the options, or several"
    return [f"{text}: {', '.join(counted)}."] if counted else []


def left_out(summary: dict[str, Any]) -> list[str]:
    """What is said of questions that do not count: without a right answer, or about broken videos."""
    num, broken = summary["num_unscored"], summary["broken"]
    unscored = f"Not scored: {num} questions without a right answer; results.jsonl holds what was predicted."
    return [unscored][:num] + [f"{passed_over(broken)}."][: len(broken)]


def commit_of(summary: dict[str, Any]) -> str:
    """Which states of the repository a run's sessions had."""
    commits = ", ".join(commit[:12] for commit in summary["commits"])
    return f"commit {commits}{' (dirty)' if summary['is_dirty'] else ''}" if commits else "no commit"


def _by_kind(summary: dict[str, Any]) -> list[Table]:
    """Accuracy by kind of question; nothing where kinds are the groups, or too many for a table."""
    chance = summary["chance_by_kind"]
    if chance.keys() <= summary["num_questions"].keys() or len(chance) > MOST_KINDS:
        return []
    by_row = {name: row["accuracy_by_kind"] for name, row in summary["rows"].items()} | {"chance": chance}
    rows = [[name, *(f"{shares[kind]:.2f}" for kind in chance)] for name, shares in by_row.items()]
    return [Table(["by kind", *chance], rows)]


def _by_label(head: str, by_row: dict[str, dict[str, Any]]) -> list[Table]:
    """A line for each label, of which there may be many; nothing where questions have none.

    The mean of a label's groups stands behind a slash.
    """
    labels = {label: each["num_questions"] for label, each in next(iter(by_row.values())).items()}
    rows = [
        [f"{label} ({num})", *(_of_label(row[label]) for row in by_row.values())]
        for label, num in labels.items()
    ]
    return [Table([f"{head}: of questions / of groups", *by_row], rows)] if rows else []


def _of_label(label: dict[str, Any]) -> str:
    return f"{with_interval(label['accuracy'])} / {label['macro_accuracy']['mean']:.2f}"


def _sizes(summary: dict[str, Any]) -> list[Table]:
    """What an index takes in memory and on disk; nothing where results of earlier versions do not tell."""
    sizes = {name: row.get("index_bytes") for name, row in summary["rows"].items()}
    if not all(sizes.values()):
        return []
    largest = max(sizes.values())
    rows = [[name, f"{size / 1e6:.2f}", f"{size / largest:.2f}x"] for name, size in sizes.items()]
    return [Table(["index", "MB a video", "of the largest"], rows)]


def _all_tries(by_row: dict[str, Any]) -> Table:
    groups = [f"{group} ({num})" for group, num in next(iter(by_row.values()))["num_questions"].items()]
    rows = [
        [name, *map(with_interval, [*tries["accuracy"].values(), tries["macro_accuracy"]])]
        for name, tries in by_row.items()
    ]
    return Table(["all tries right", *groups, "mean of groups"], rows)


def claims_table(claims: list[dict[str, Any]]) -> list[str]:
    """The lines of a table of judged claims; none without claims."""
    rows = [
        [claim["say"], measured(claim), claim["bar"], "yes" if claim["holds"] else "**no**"]
        for claim in claims
    ]
    return markdown(["claim", "measured", "bar", "holds"], rows) if rows else []


def _spaced(tables: list[Table]) -> list[str]:
    return [line for each in tables for line in (*markdown(*each), "")]


def measured(claim: dict[str, Any]) -> str:
    """What was measured, to two digits; to three where two would not tell the number from its bar."""
    if claim["value"] is None:
        return "nothing to measure"
    bars, judged = _bars(claim), [claim["value"], *(claim["interval"] or [])[:1]]
    digits = 2 + any(round(number, 2) in bars and number not in bars for number in judged)
    value = {"mean": claim["value"], "interval": claim["interval"]}
    return with_interval(value, digits) if claim["interval"] else f"{claim['value']:.{digits}f}"


def _bars(claim: dict[str, Any]) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", claim["bar"])]


def _differences(summary: dict[str, Any]) -> list[Table]:
    groups, pairs = list(summary["num_questions"]), combinations(summary["rows"], 2)
    rows = [
        [f"{name} - {other}", *(signed(summary["differences"][name][other][group]) for group in groups)]
        for name, other in pairs
    ]
    return [Table(["paired difference", *groups], rows)] if rows else []


def signed(value: dict[str, Any]) -> str:
    """A difference and its interval: "+0.05 [-0.01, +0.11]"."""
    low, high = value["interval"]
    return f"{value['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"


def markdown(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    escaped = ([cell.replace("|", r"\|") for cell in cells] for cells in (head, ["---"] * len(head), *rows))
    return [f"| {' | '.join(cells)} |" for cells in escaped]
