"""LLaVA-style records: one video or picture, and a conversation about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from x2l.data._conversation import Turn, asks_for_caption, turns_of
from x2l.data._objects import known, read_objects
from x2l.errors import X2LError, require


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
    for number, (data, path) in enumerate(read_objects(file)):
        yield _record(data, str(number), path + (f" ({data['id']})" if "id" in data else ""))


def _record(data: Mapping[str, Any], number: str, path: str) -> Record:
    spelled = known(_Spelled, data, path)
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
