"""Questions as a file spells them: one format, whether they are about one video or about many."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

from x2l.config.fields import arguments
from x2l.errors import X2LError, require, unknown
from x2l.scoring import plain
from x2l.storage.files import read_json
from x2l.types import Question

Text = str | int | float
"""What is read as text; a number as its digits."""


@dataclass(frozen=True)
class Record:
    """A question as a file spells it. gt: an option, its letter or both; None: not known."""

    question: str
    video: str = ""
    options: tuple[Text, ...] = ()
    gt: Text | None = None
    type: str = ""
    try_: int | None = None
    id: str | int = ""
    group: str = ""
    gold_spans_s: tuple[tuple[float, float], ...] | None = None


SPELLINGS = {"answer": "gt", "candidates": "options", "question_type": "type", "try": "try_"}
"""What else fields are called; read where the field itself is not there."""
_FIELDS = {field.name for field in fields(Record)}
_NAMES = {*_FIELDS, *SPELLINGS} - {"try_"}
_ALIKE = 0.82
"""How alike two names are if one is a slip of the pen."""


def read_questions(path: Path) -> list[tuple[str, Question]]:
    """The questions of a JSON list, each with its video as the file spells it ("": it names none).

    An item is a text, or an object with fields of Record; others are ignored, unless one is misspelt.
    Raises X2LError naming the file, the record (by its number from 0) and the field that is wrong.
    """
    items = read_json(path)
    if not isinstance(items, list) or not items:
        raise X2LError(f"{path}: expected a JSON list of at least one question")
    paths = [f"{path}: record {number}" for number in range(len(items))]
    records = [_record(item, where) for item, where in zip(items, paths, strict=True)]
    told = zip(records, _ids(records), _tries_at(records), paths, strict=True)
    return [(record.video, _question(record, *names, where)) for record, *names, where in told]


def _record(item: Any, path: str) -> Record:
    item = {"question": item} if isinstance(item, str) else item
    if not isinstance(item, Mapping):
        raise X2LError(f"{path}: expected an object or a text, got {item!r}")
    given = {name: value for name, value in item.items() if value is not None}
    renamed = {name: given.pop(old) for old, name in SPELLINGS.items() if old in given}
    given = renamed | given
    missing = [name for name in _NAMES if SPELLINGS.get(name, name) not in given]
    for name in given.keys() - _FIELDS:
        if get_close_matches(name.lower(), missing, n=1, cutoff=_ALIKE):
            raise unknown(f"{path}.{name}", name, _NAMES)
    known = {name: given[name] for name in given.keys() & _FIELDS}
    record = Record(**arguments(Record, known, path, lambda _: None))
    require(bool(record.question.strip()), f"{path}.question", "text", record.question)
    return record


def _question(record: Record, name: str, tries_at: str, path: str) -> Question:
    question = Question(
        text=record.question,
        id=name,
        options=tuple(_text(option, f"{path}.options") for option in record.options),
        answer=None if record.gt is None else _text(record.gt, f"{path}.gt"),
        gold_spans_s=record.gold_spans_s,
        group=record.group or record.type,
        tries_at=tries_at,
    )
    try:
        return plain(question)
    except X2LError as error:
        raise X2LError(f"{path}: {error}") from error


def _text(value: Text, path: str) -> str:
    if isinstance(value, float):
        require(isfinite(value), path, "text or a number", value)
        value = int(value) if value.is_integer() else value
    require(bool(str(value).strip()), path, "text or a number", value)
    return str(value)


def _ids(records: Sequence[Record]) -> list[str]:
    """A question without an id is called by its type and its try, or how many of that type came before.

    Those before are of the same video. Without a type it is its number in the file, from 1.
    """
    before: Counter[tuple[str, str]] = Counter()
    ids = []
    for number, record in enumerate(records, start=1):
        nth = before[record.video, record.type] if record.try_ is None else record.try_
        before[record.video, record.type] += 1
        ids.append(str(record.id) or (f"{record.type}-{nth}" if record.type else str(number)))
    return ids


def _tries_at(records: Sequence[Record]) -> list[str]:
    """What each is a try at: its question, where questions of the type have several tries; "" where not."""
    tries = defaultdict(set)
    for record in records:
        tries[record.type] |= {record.try_} - {None}
    return [f"{r.type}: {r.question}" if len(tries[r.type]) > 1 else "" for r in records]
