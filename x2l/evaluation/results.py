"""results.jsonl: one line per row, video and question, appended as they are answered.

Of several processes the first writes there, the others to results-1.jsonl and so on, until all are done.

A line tells what it answers by a hash, `asked`. It counts as long as that is asked: lines about videos or
questions that are changed or taken away stay in the file, and count again when these are back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from x2l.errors import X2LError
from x2l.storage.files import lock, read_json, write_bytes

RESULTS, RUN = "results.jsonl", "run.json"

Line = dict[str, Any]
Key = tuple[str, str]
"""Of a line: its row, and what it answers."""


class Results:
    """The lines of a run so far, and a place to add more: one for each process, by its `rank`.

    Each line is given the number of its session: 0, or one more than the highest among those that are there.
    A last line that a kill tore is dropped from the file when it is opened.
    Raises X2LError for results of an earlier version, which do not tell what was asked.
    """

    def __init__(self, out: Path, rank: int = 0):
        self.path = out / (f"results-{rank}.jsonl" if rank else RESULTS)
        lines = read(out) if (out / RESULTS).is_file() else []
        if not all("asked" in line for line in lines):
            raise X2LError(f"{out}: holds results of an earlier version; choose another folder")
        self.done = {key(line) for line in lines}
        self._session = 1 + max((line.get("session", 0) for line in lines), default=-1)

    def __enter__(self) -> Results:
        self._file = self.path.open("ab")
        lock(self._file, self.path.parent)
        _drop_torn_line(self.path)
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def append(self, line: Line) -> None:
        self._file.write(_text(line | {"session": self._session}))
        self._file.flush()
        self.done.add(key(line))


def key(line: Line) -> Key:
    return line["row"], line["asked"]


def merge(out: Path, keys: Sequence[Key]) -> None:
    """Make one file of those of several processes, in the order of `keys`; other lines stand behind."""
    if not (others := _others(out)):
        return
    lines, places = {key(line): line for line in read(out)}, {each: i for i, each in enumerate(keys)}
    ordered = sorted(lines.values(), key=lambda line: places.get(key(line), len(places)))
    write_bytes(out / RESULTS, b"".join(map(_text, ordered)))
    for other in others:
        other.unlink()


def counted(out: Path) -> list[Line]:
    """Every complete line that answers what is asked (see run.json), which earlier versions do not tell."""
    asked = read_json(out / RUN).get("asked")
    if asked is None:
        return [line | {"asked": f"{line['video']} {line['question']}"} for line in read(out)]
    hashes = {each for of_video in asked.values() for each in of_video.values()}
    return [line for line in read(out) if line.get("asked") in hashes]


def read(out: Path) -> list[Line]:
    """Every complete line. Raises X2LError naming file and line if one is not a result."""
    return [line for path in (out / RESULTS, *_others(out)) for line in _lines(path)]


def _others(out: Path) -> list[Path]:
    return sorted(out.glob("results-*.jsonl"))


def _text(line: Line) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _lines(path: Path) -> Iterator[Line]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise X2LError(f"{path}: cannot be read, {error.strerror}") from error
    complete = content[: content.rfind(b"\n") + 1]
    for number, text in enumerate(complete.splitlines(), start=1):
        try:
            line = json.loads(text)
            line["row"], line["video"], line["question"]
        except (ValueError, KeyError, TypeError) as error:
            raise X2LError(f"{path}: line {number} is not a result, expected one JSON object") from error
        yield line


def _drop_torn_line(path: Path) -> None:
    if path.is_file():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
