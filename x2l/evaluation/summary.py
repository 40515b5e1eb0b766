"""From results.jsonl to summary.json, table.md and figures; needs no model and no video.

Keys of a summary: num_videos; num_questions and chance by group ("all" is every group), chance_by_kind;
rows, each with accuracy {group: mean, interval} (all: over questions), macro_accuracy (over groups; results
of earlier versions lack it), accuracy_by_kind, accuracy_by_depth {group: {percent}} of haystacks,
accuracy_by_label {label: num_questions, accuracy, macro_accuracy} (see x2l.evaluation.labels), all_tries
(null, or num_questions, accuracy, macro_accuracy and by_label where a question counts if every try at it is
right), num_unclear (answers that name none of the options, or several), cache_reduction by group,
kv_tokens, index_bytes (mean over questions of what their videos' indices take; null in results of earlier
versions), ttft_s, ttft_ratio (against ttft_row: the uncompressed_row, or else the first, over the
ttft_questions that both answered in the same session; null if there are none), recall, recall_by_group,
oracle_recall_at {k}; differences {row: {other: {group: mean, interval}}}; claims (see x2l.evaluation.claims);
num_unscored, questions without a right answer, which are not in any of these (if there are no others, none of
these is there); broken, "video: why" of each that cannot be read; then where the numbers come from: seeds,
hashes, backbones, recipe, versions, git, date, devices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import fsum
from pathlib import Path
from statistics import fmean, median
from typing import Any

from x2l.errors import X2LError
from x2l.evaluation import bootstrap
from x2l.evaluation.claims import Claim, judge, read_claims
from x2l.evaluation.figures import draw
from x2l.evaluation.labels import by_label
from x2l.evaluation.results import RUN, Line, counted
from x2l.evaluation.table import left_out, table
from x2l.evaluation.tally import ALL, Tally, of_group
from x2l.evaluation.tries import all_tries
from x2l.scoring import best, recall, words
from x2l.storage.files import read_json, write_json, write_text
from x2l.types import TTFT

RECALL_AT = range(1, 7)
HASHES = ("recipe_hash", "questions_hash", "asked_hash")


def summarise(out: str | Path) -> dict[str, Any]:
    """Compute the summary of a run anew from its lines and return it.

    Writes summary.json, table.md and figures (see x2l.evaluation.figures).

    Only questions that every row has answered count, so that an interrupted run can be summarised too.
    Raises X2LError if there are none.
    """
    out = Path(out)
    summary = summary_of(out, answered(out))
    has_scored = "rows" in summary
    write_json(out / "summary.json", summary)
    write_text(out / "table.md", table(summary) if has_scored else "\n".join(left_out(summary)))
    if has_scored:
        draw(summary, out)
    return summary


def summary_of(out: Path, lines: list[Line]) -> dict[str, Any]:
    """The summary of a run as its lines (see `answered`) have it; nothing is written."""
    run = read_json(out / RUN)
    names = list(run["recipe"]["rows"])
    scored = [line for line in lines if line["right"] is not None]
    summary = of_lines(scored, names, read_claims(run["recipe"].get("claims", []))) if scored else {}
    num_unscored = (len(lines) - len(scored)) // len(names)
    return summary | {"num_unscored": num_unscored, "broken": run.get("broken", []), **_of_run(run)}


def answered(out: Path) -> list[Line]:
    """The lines of a run that count. Raises X2LError if there are none."""
    lines = answered_by_all(counted(out), list(read_json(out / RUN)["recipe"]["rows"]))
    if not lines:
        raise X2LError(f"{out}: no question is answered by every row yet, expected at least one")
    return lines


def of_lines(lines: list[Line], names: list[str], claims: list[Claim]) -> dict[str, Any]:
    """What follows from scored answers of the named rows to the same questions."""
    rows = {name: [line for line in lines if line["row"] == name] for name in names}
    tallies = {name: Tally(rows[name]) for name in names}
    asked = rows[names[0]]
    full = _uncompressed(rows)
    timed_against = full or names[0]
    costs = {name: _costs(rows[name], rows[full] if full else None, rows[timed_against]) for name in names}
    chance = {group: _chance(of_group(asked, group)) for group in _groups(asked)}
    chance_by_kind = {kind: _chance(_of_kind(asked, kind)) for kind in _kinds(asked)}
    cache_gone = {name: costs[name]["cache_reduction"] for name in names}
    return {
        "num_videos": len({line["video"] for line in asked}),
        "num_questions": {group: len(of_group(asked, group)) for group in _groups(asked)},
        "chance": chance,
        "chance_by_kind": chance_by_kind,
        "rows": {
            name: {
                "accuracy": {group: tallies[name].accuracy(group) for group in _groups(asked)},
                "macro_accuracy": tallies[name].macro(),
                "accuracy_by_kind": {kind: _accuracy_of_kind(rows[name], kind) for kind in _kinds(asked)},
                "accuracy_by_depth": tallies[name].by_depth(),
                "accuracy_by_label": by_label(rows[name]),
                "all_tries": all_tries(rows[name], _groups(asked)),
                "num_unclear": sum(not line.get("is_clear", True) for line in rows[name]),
                **costs[name],
                **_recalls(rows[name]),
            }
            for name in names
        },
        "uncompressed_row": full,
        "ttft_row": timed_against,
        "differences": {
            name: {
                other: {group: tallies[name].minus(tallies[other], group) for group in _groups(asked)}
                for other in names
                if other != name
            }
            for name in names
        },
        "claims": [judge(claim, tallies, cache_gone, chance_by_kind | chance) for claim in claims],
    }


def _of_run(run: dict[str, Any]) -> dict[str, Any]:
    last = run["sessions"][-1]
    states = [session["git"] for session in run["sessions"] if session["git"]]
    return {
        "seeds": {"data": run["recipe"]["data"].get("seed"), "bootstrap": bootstrap.SEED},
        "num_resamples": bootstrap.NUM_RESAMPLES,
        **{name: run[name] for name in (*HASHES, "backbones", "oracles", "recipe")},
        **last,
        "num_sessions": len(run["sessions"]),
        "commits": list(dict.fromkeys(state["commit"] for state in states)),
        "is_dirty": any(state["dirty"] for state in states),
    }


def answered_by_all(lines: Iterable[Line], names: list[str]) -> list[Line]:
    """Lines of the questions that every row has answered, in the order in which they were first asked."""
    by_key = {(line["asked"], line["row"]): line for line in lines}
    every = dict.fromkeys(asked for asked, _ in by_key)
    complete = [asked for asked in every if all((asked, name) in by_key for name in names)]
    return [by_key[asked, name] for asked in complete for name in names]


def _groups(lines: list[Line]) -> list[str]:
    return [*dict.fromkeys(line["group"] for line in lines), ALL]


def _chance(lines: list[Line]) -> float:
    """Accuracy without the video: of the best of three guesses for each kind of question.

    The most frequent gold answer of the kind, any answer that the question itself names, any option shown.
    """
    kinds = [_of_kind(lines, kind) for kind in _kinds(lines)]
    guesses = (_most_frequent, _named, _shown)
    return sum(max(guess(of_kind) for guess in guesses) for of_kind in kinds) / len(lines)


def _most_frequent(lines: list[Line]) -> int:
    return max(Counter(line["gold"] for line in lines).values())


def _named(lines: list[Line]) -> float:
    answers = {line["gold"] for line in lines}
    named = [(line["gold"], answers & words(line["text"])) for line in lines]
    return fsum(1 / len(choices) for gold, choices in named if gold in choices)


def _shown(lines: list[Line]) -> float:
    """Results of earlier versions do not say how many options were shown."""
    return fsum(1 / line["num_options"] for line in lines if line.get("num_options"))


def _kinds(lines: list[Line]) -> list[str]:
    return list(dict.fromkeys(line["kind"] for line in lines))


def _of_kind(lines: list[Line], kind: str) -> list[Line]:
    return [line for line in lines if line["kind"] == kind]


def _accuracy_of_kind(lines: list[Line], kind: str) -> float:
    return fmean(line["right"] for line in _of_kind(lines, kind))


def _uncompressed(rows: dict[str, list[Line]]) -> str | None:
    """The row that keeps every KV token; of several, the one that looked at the most frames."""

    def num_tokens(name: str) -> int:
        return sum(line["kv_tokens"] for line in rows[name])

    complete = [name for name, lines in rows.items() if all(_is_full(line) for line in lines)]
    return max(complete, key=num_tokens, default=None)


def _is_full(line: Line) -> bool:
    return line["kv_tokens"] == line["kv_tokens_full"]


def _costs(lines: list[Line], full: list[Line] | None, timed_against: list[Line]) -> dict[str, Any]:
    """Cache and time; times are medians over questions, because other work disturbs some of them."""
    gone = [_cache_gone(*pair) for pair in zip(lines, full or lines, strict=True)]
    pairs = [
        pair for pair in zip(lines, timed_against, strict=True) if _session(pair[0]) == _session(pair[1])
    ]
    return {
        "cache_reduction": {
            group: fmean(x for x, line in zip(gone, lines, strict=True) if group in (ALL, line["group"]))
            for group in _groups(lines)
        },
        "kv_tokens": fmean(line["kv_tokens"] for line in lines),
        "index_bytes": fmean(sizes) if all(sizes := [line.get("index_bytes") for line in lines]) else None,
        "ttft_s": _ttft_s(lines),
        "ttft_ratio": _ttft_ratio(pairs),
        "ttft_questions": len(pairs),
    }


def _cache_gone(line: Line, full: Line) -> float:
    """Share of the tokens of an uncompressed video, at the frame rate of the row that keeps it whole."""
    return 1 - line["kv_tokens"] / full["kv_tokens_full"]


def _ttft_ratio(pairs: list[tuple[Line, Line]]) -> float | None:
    """Of answers to the same questions in the same session: a machine is not always as fast."""
    if not pairs:
        return None
    own, other = zip(*pairs, strict=True)
    return _ttft_s(own) / _ttft_s(other)


def _session(line: Line) -> tuple[str | None, int]:
    """Its run, where lines of several are read, and the session; earlier versions do not tell which."""
    return line.get("run"), line.get("session", 0)


def _ttft_s(lines: Sequence[Line]) -> float:
    return median(sum(line["seconds"].get(name, 0) for name in TTFT) for line in lines)


def _recalls(lines: list[Line]) -> dict[str, Any]:
    """Share of gold chunks among those re-loaded in detail, and among the k best scores of the oracle."""
    chosen = [line for line in lines if line["detailed_chunks"]]
    by_group = {group: _recall_of(of_group(chosen, group)) for group in _groups(lines)}
    scored = [line for line in lines if line["scores"] and line["detailed_chunks"]]
    at_k = {k: _mean_recall((best(x["scores"], k), x["gold_chunks"]) for x in scored) for k in RECALL_AT}
    return {
        "recall": by_group[ALL],
        "recall_by_group": by_group,
        "oracle_recall_at": {str(k): value for k, value in at_k.items()},
    }


def _recall_of(lines: list[Line]) -> float | None:
    return _mean_recall((line["detailed_chunks"], line["gold_chunks"]) for line in lines)


def _mean_recall(pairs: Iterable[tuple[list[int], list[int]]]) -> float | None:
    known = [value for pair in pairs if (value := recall(*pair)) is not None]
    return fmean(known) if known else None
