"""The answers as lmms-eval logs its samples: a JSON object in a line for each answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from x2l.evaluation.results import Line
from x2l.evaluation.summary import answered


def lmms_samples(run: Path, intervals: bool = True) -> str:
    """Fields of lmms-eval, and `row`, whose answers are the samples of a model; they have no intervals.

    Source: what lmms-eval 0.7.3 writes with --log_samples; it leaves out `doc`, and `resps` that are these.
    """
    lines = answered(run)
    numbers = {asked: number for number, asked in enumerate(dict.fromkeys(line["asked"] for line in lines))}
    samples = [_sample(line, numbers[line["asked"]]) for line in lines]
    return "".join(f"{json.dumps(sample, ensure_ascii=False)}\n" for sample in samples)


def _sample(line: Line, number: int) -> dict[str, Any]:
    doc = {name: line[name] for name in ("video", "question", "kind", "group", "text", "gold")}
    score = {} if line["right"] is None else {"acc": float(line["right"])}
    return {
        "row": line["row"],
        "doc_id": number,
        "doc": doc,
        "input": line["text"],
        "target": "" if line["gold"] is None else line["gold"],
        "resps": [line["prediction"]],
        "filtered_resps": line["prediction"],
        "doc_hash": hashlib.sha256(json.dumps(doc, indent=2, ensure_ascii=False).encode()).hexdigest(),
        **score,
    }
