"""From results.jsonl to summary.json and table.md; needs no model and no video.

Keys of a summary: num_videos; num_questions and chance by group ("all" is every group); rows, each with
accuracy {group: mean, interval}, accuracy_by_kind, cache_reduction by group, kv_tokens, ttft_s, ttft_ratio
(against uncompressed_row), recall, oracle_recall_at {k}; differences {row: {other: {group: mean, interval}}};
then where the numbers come from: seeds, hashes, backbones, recipe, versions, git, date, devices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from jaxtyping import Float

from x2l.errors import X2LError
from x2l.evaluation import bootstrap
from x2l.evaluation.results import RUN, Line, read, read_json, write_json, write_text
from x2l.evaluation.scoring import best, recall
from x2l.evaluation.table import table

ALL = "all"
TTFT = ("score", "assemble", "first_token")
"""Seconds from the question to the first token of its answer."""
RECALL_AT = range(1, 7)


def summarise(out: str | Path) -> dict[str, Any]:
    """Compute the summary of a run anew from its lines, write summary.json and table.md, and return it.

    Only questions that every row has answered count, so that an interrupted run can be summarised too.
    Raises X2LError if there are none.
    """
    out = Path(out)
    run = read_json(out / RUN)
    names = list(run["recipe"]["rows"])
    lines = _answered_by_all(read(out), names)
    if not lines:
        raise X2LError(f"{out}: no question is answered by every row yet, expected at least one")
    summary = {**_of_lines(lines, names), **_of_run(run)}
    write_json(out / "summary.json", summary)
    write_text(out / "table.md", table(summary))
    return summary


def _of_lines(lines: list[Line], names: list[str]) -> dict[str, Any]:
    rows = {name: [line for line in lines if line["row"] == name] for name in names}
    tallies = {name: Tally(rows[name]) for name in names}
    asked = rows[names[0]]
    full = next((name for name in names if all(_is_full(line) for line in rows[name])), None)
    return {
        "num_videos": len({line["video"] for line in asked}),
        "num_questions": {group: len(_of_group(asked, group)) for group in _groups(asked)},
        "chance": {group: _chance(_of_group(asked, group)) for group in _groups(asked)},
        "rows": {
            name: {
                "accuracy": {group: tallies[name].accuracy(group) for group in _groups(asked)},
                "accuracy_by_kind": {kind: _accuracy_of_kind(rows[name], kind) for kind in _kinds(asked)},
                **_costs(rows[name], rows[full] if full else None),
                **_recalls(rows[name]),
            }
            for name in names
        },
        "uncompressed_row": full,
        "differences": {
            name: {
                other: {group: tallies[name].minus(tallies[other], group) for group in _groups(asked)}
                for other in names
                if other != name
            }
            for name in names
        },
    }


def _of_run(run: dict[str, Any]) -> dict[str, Any]:
    last = run["sessions"][-1]
    return {
        "seeds": {"data": run["recipe"]["data"].get("seed"), "bootstrap": bootstrap.SEED},
        "num_resamples": bootstrap.NUM_RESAMPLES,
        **{name: run[name] for name in ("recipe_hash", "questions_hash", "backbones", "recipe")},
        **last,
        "num_sessions": len(run["sessions"]),
        "commits": sorted({session["git"]["commit"] for session in run["sessions"] if session["git"]}),
    }


class Tally:
    """Right answers and questions of one row, by group and video."""

    def __init__(self, lines: list[Line]):
        self.lines = lines
        self.videos = {video: i for i, video in enumerate(dict.fromkeys(line["video"] for line in lines))}
        self.weights = bootstrap.draw(len(self.videos))

    def accuracy(self, group: str) -> dict[str, Any]:
        right, asked = self.counts(group)
        samples = bootstrap.ratios(self.weights, right, asked)
        return {"mean": float(right.sum() / asked.sum()), "interval": bootstrap.interval(samples)}

    def minus(self, other: Tally, group: str) -> dict[str, Any]:
        """The difference of accuracies, paired: both rows were asked the same questions."""
        (right, asked), (other_right, _) = self.counts(group), other.counts(group)
        samples = bootstrap.ratios(self.weights, right - other_right, asked)
        mean = float((right - other_right).sum() / asked.sum())
        return {"mean": mean, "interval": bootstrap.interval(samples)}

    def counts(self, group: str) -> tuple[Float[np.ndarray, " videos"], Float[np.ndarray, " videos"]]:
        """Right answers and questions of each video."""
        right, asked = np.zeros(len(self.videos)), np.zeros(len(self.videos))
        for line in _of_group(self.lines, group):
            right[self.videos[line["video"]]] += line["right"]
            asked[self.videos[line["video"]]] += 1
        return right, asked


def _answered_by_all(lines: Iterable[Line], names: list[str]) -> list[Line]:
    """Lines of the questions that every row has answered, in the order in which they were first asked."""
    by_key = {(line["video"], line["question"], line["row"]): line for line in lines}
    asked = dict.fromkeys((video, question) for video, question, _ in by_key)
    complete = [pair for pair in asked if all((*pair, name) in by_key for name in names)]
    return [by_key[(*pair, name)] for pair in complete for name in names]


def _groups(lines: list[Line]) -> list[str]:
    return [*dict.fromkeys(line["group"] for line in lines), ALL]


def _of_group(lines: list[Line], group: str) -> list[Line]:
    return lines if group == ALL else [line for line in lines if line["group"] == group]


def _chance(lines: list[Line]) -> float:
    """Accuracy of always giving the most frequent gold answer of each kind of question."""
    kinds = {kind: Counter(line["gold"] for line in lines if line["kind"] == kind) for kind in _kinds(lines)}
    return sum(max(golds.values()) for golds in kinds.values()) / len(lines)


def _kinds(lines: list[Line]) -> list[str]:
    return list(dict.fromkeys(line["kind"] for line in lines))


def _accuracy_of_kind(lines: list[Line], kind: str) -> float:
    return fmean(line["right"] for line in lines if line["kind"] == kind)


def _is_full(line: Line) -> bool:
    return line["kv_tokens"] == line["kv_tokens_full"]


def _costs(lines: list[Line], full: list[Line] | None) -> dict[str, Any]:
    """Cache and time; times are medians over questions, because other work disturbs some of them."""
    ttft_s = _ttft_s(lines)
    groups = {
        group: fmean(line["cache_reduction"] for line in _of_group(lines, group)) for group in _groups(lines)
    }
    return {
        "cache_reduction": groups,
        "kv_tokens": fmean(line["kv_tokens"] for line in lines),
        "ttft_s": ttft_s,
        "ttft_ratio": ttft_s / _ttft_s(full) if full else None,
    }


def _ttft_s(lines: list[Line]) -> float:
    return median(sum(line["seconds"].get(name, 0) for name in TTFT) for line in lines)


def _recalls(lines: list[Line]) -> dict[str, Any]:
    """Share of gold chunks among those re-loaded in detail, and among the k best scores of the oracle."""
    chosen = [(line["detailed_chunks"], line["gold_chunks"]) for line in lines if line["detailed_chunks"]]
    scored = [line for line in lines if line["scores"] and line["detailed_chunks"]]
    at_k = {k: _mean_recall((best(x["scores"], k), x["gold_chunks"]) for x in scored) for k in RECALL_AT}
    return {"recall": _mean_recall(chosen), "oracle_recall_at": {str(k): value for k, value in at_k.items()}}


def _mean_recall(pairs: Iterable[tuple[list[int], list[int]]]) -> float | None:
    known = [value for pair in pairs if (value := recall(*pair)) is not None]
    return fmean(known) if known else None
