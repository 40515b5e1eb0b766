"""Hashes of what an evaluation asks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from x2l.items import Item
from x2l.types import Question


def asked_hash(asked: Iterable[Sequence[Question]]) -> str:
    """sha256 over what is asked about each video, its answer and where it is seen; without options.

    What a generator draws decides it, and not how its videos are encoded.
    """
    content = [[(q.id, q.group, q.text, q.answer, q.gold_spans_s) for q in questions] for questions in asked]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def questions_hash(items: Sequence[Item]) -> str:
    """sha256 over what is asked about which bytes."""
    content = [(item.fingerprint(), [asdict(question) for question in item.questions]) for item in items]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
