"""Files of records: a JSON list, or JSONL with one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from x2l.config.fields import arguments
from x2l.errors import X2LError
from x2l.storage.files import read_json

Spelled = TypeVar("Spelled")


def read_objects(file: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The objects of a JSON list, or of a *.jsonl file, and what errors call each: "FILE: record 3".

    Raises X2LError naming the file, and the record (by its number from 0) that is no object.
    """
    for number, data in enumerate(_read(file)):
        path = f"{file}: record {number}"
        if not isinstance(data, Mapping):
            raise X2LError(f"{path}: expected an object, got {data!r}")
        yield data, path


def known(cls: type[Spelled], data: Mapping[str, Any], path: str) -> Spelled:
    """The dataclass of what an object has of its fields; others are not read.

    Raises X2LError naming the field under `path` that is missing or of the wrong type.
    """
    own = {key: value for key, value in data.items() if key in cls.__dataclass_fields__}
    return cls(**arguments(cls, own, path, lambda _: None))


def _read(file: Path) -> Sequence[Any]:
    records = _read_lines(file) if file.suffix.lower() == ".jsonl" else read_json(file)
    if not isinstance(records, list) or not records:
        raise X2LError(f"{file}: expected a JSON list of at least one record, or lines of JSON in *.jsonl")
    return records


def _read_lines(file: Path) -> list[Any]:
    try:
        # Not splitlines(): a string of JSON may hold other separators as they are.
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise X2LError(f"{file}: cannot be read, {error.__class__.__name__}") from error
    return [_parsed(line, f"{file}: line {i}") for i, line in enumerate(lines, start=1) if line.strip()]


def _parsed(line: str, path: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise X2LError(f"{path}: not JSON, {error}") from error
