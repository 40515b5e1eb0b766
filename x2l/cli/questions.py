"""A file of questions, and whether an answer is right."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from x2l.config.fields import arguments
from x2l.config.paths import local_path
from x2l.errors import X2LError
from x2l.storage.files import read_json
from x2l.types import Question


@dataclass(frozen=True)
class Entry:
    """A question as a file spells it."""

    question: str
    id: str = ""
    answer: str | None = None
    options: tuple[str, ...] = ()
    gold_spans_s: tuple[tuple[float, float], ...] | None = None
    group: str = ""


def load(path: str | Path) -> list[Question]:
    """Questions from a JSON list of strings or of objects with the fields of Entry.

    A question without an id is called by its number, from 1. Raises X2LError naming file and field.
    """
    items = read_json(local_path(path))
    if not isinstance(items, list) or not items:
        raise X2LError(f"{path}: expected a JSON list of at least one question")
    try:
        return [_question(item, number) for number, item in enumerate(items, start=1)]
    except X2LError as error:
        raise X2LError(f"{path}: {error}") from error


def _question(item: Any, number: int) -> Question:
    item = {"question": item} if isinstance(item, str) else item
    if not isinstance(item, dict):
        raise X2LError(f"question {number}: expected a string or an object, got {item!r}")
    entry = asdict(Entry(**arguments(Entry, item, f"question {number}", lambda _: None)))
    if not entry["question"].strip():
        raise X2LError(f"question {number}: is empty")
    return Question(text=entry.pop("question"), **{**entry, "id": entry["id"] or str(number)})
