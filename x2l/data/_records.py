"""LLaVA-style records: one video or picture, and a conversation about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from x2l.config.fields import arguments
from x2l.data._conversation import Turn, asks_for_caption, turns_of
from x2l.errors import X2LError, require
from x2l.storage.files import read_json


@dataclass(frozen=True)
class Record:
    """A checked record.

    paths: of the video (a file, or a folder of frames) or of the pictures, relative to the data root; none
        in a record of text only.
    group: the record's `source`, else the first folder of its path.
    gold_frames: counted from 0 before sampling.
    """

    id: str
    turns: tuple[Turn, ...]
    paths: tuple[str, ...]
    is_video: bool
    group: str
    gold_spans_s: tuple[tuple[float, float], ...] | None
    gold_frames: tuple[int, ...]

    @property
    def only_asks_for_captions(self) -> bool:
        return all(asks_for_caption(asked) for asked, _ in self.turns)


@dataclass(frozen=True)
class _Spelled:
    """The fields of a record that are read; it may have others."""

    conversations: list[dict[str, Any]]
    id: str | int | None = None
    video: str | None = None
    image: str | list[str] | None = None
    source: str | None = None
    gt_time_span: list[tuple[float, float]] | None = None
    gt_frame_idx: list[int] | None = None


def read_records(file: Path) -> Iterator[Record]:
    """The records of a JSON list, or of a JSONL file (*.jsonl, one record a line).

    Raises X2LError naming the file, the record (by its number from 0 and its id) and the field that is wrong.
    """
    for number, data in enumerate(_read(file)):
        path = f"{file}: record {number}"
        if not isinstance(data, Mapping):
            raise X2LError(f"{path}: expected an object, got {data!r}")
        yield _record(data, str(number), path + (f" ({data['id']})" if "id" in data else ""))


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


def _record(data: Mapping[str, Any], number: str, path: str) -> Record:
    known = {key: value for key, value in data.items() if key in _Spelled.__dataclass_fields__}
    spelled = _Spelled(**arguments(_Spelled, known, path, lambda _: None))
    paths = _paths(spelled, path)
    for start_s, end_s in spelled.gt_time_span or []:
        require(0 <= start_s < end_s, f"{path}.gt_time_span", "0 <= start < end", [start_s, end_s])
    return Record(
        id=number if spelled.id is None else str(spelled.id),
        turns=tuple(turns_of(spelled.conversations, f"{path}.conversations")),
        paths=paths,
        is_video=spelled.video is not None,
        group=spelled.source or _first_folder(paths),
        gold_spans_s=tuple(spelled.gt_time_span) if spelled.gt_time_span else None,
        gold_frames=() if spelled.gt_time_span else tuple(spelled.gt_frame_idx or ()),
    )


def _paths(spelled: _Spelled, path: str) -> tuple[str, ...]:
    if spelled.video is not None and spelled.image is not None:
        raise X2LError(f"{path}: has video and image, expected one of them")
    given = spelled.video if spelled.image is None else spelled.image
    paths = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    if given is not None and not (paths and all(paths)):
        raise X2LError(f"{path}.{'image' if spelled.video is None else 'video'}: is empty, expected a path")
    return paths


def _first_folder(paths: Sequence[str]) -> str:
    """The whole folder of an absolute path: the first would be that of all records."""
    if not paths:
        return ""
    path = PurePosixPath(paths[0])
    if path.is_absolute():
        return str(path.parent)
    return path.parts[0] if len(path.parts) > 1 else ""
