"""Hashes of what an evaluation asks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from x2l.items import Item
from x2l.types import Question

_BARE, _NEWER = Question(""), ("labels", "prompt")


def asked_hash(asked: Iterable[Sequence[Question]]) -> str:
    """sha256 over what is asked about each video, its answer and where it is seen; without options.

    What a generator draws decides it, and not how its videos are encoded.
    """
    content = [[(q.id, q.group, q.text, q.answer, q.gold_spans_s) for q in questions] for questions in asked]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def question_hashes(item: Item, kind: Callable[[Question], str]) -> dict[str, str]:
    """sha256 (16 hex digits) over what is asked of which bytes, for each question by its id.

    The id does not count, because it may be a number in a file; of equal questions the second differs from
    the first. kind: of a question in tables.
    Raises X2LError if the video cannot be read.
    """
    video = [item.name, item.fingerprint(), item.gold_frames, *([item.cues] if item.cues else [])]
    alike: Counter[str] = Counter()
    hashes = {}
    for question in item.questions:
        content = json.dumps([*video, kind(question), _content(question)])
        hashes[question.id] = hashlib.sha256(f"{content} {alike[content]}".encode()).hexdigest()[:16]
        alike[content] += 1
    return hashes


def questions_hash(hashes: Mapping[str, Mapping[str, str]]) -> str:
    """sha256 over what is asked of all videos, from the hashes of their questions."""
    content = [list(of_video.values()) for of_video in hashes.values()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _content(question: Question) -> dict[str, Any]:
    """Without what runs of earlier versions did not know, where it is not used: their answers still count."""
    content = asdict(replace(question, id=""))
    unused = {name for name in _NEWER if getattr(question, name) == getattr(_BARE, name)}
    return {name: value for name, value in content.items() if name not in unused}
