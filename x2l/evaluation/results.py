"""results.jsonl: one line per row, video and question, appended as they are answered.

A line tells what it answers by a hash, `asked`. It counts as long as that is asked: lines about videos or
questions that are changed or taken away stay in the file, and count again when these are back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from x2l.errors import X2LError
from x2l.storage.files import lock, read_json

RESULTS, RUN = "results.jsonl", "run.json"

Line = dict[str, Any]


class Results:
    """The lines of a run so far, and a place to add more.

    A last line that a kill tore is dropped from the file when it is opened.
    Raises X2LError for results of an earlier version, which do not tell what was asked.
    """

    def __init__(self, out: Path):
        self.path = out / RESULTS
        lines = read(out) if self.path.is_file() else []
        if not all("asked" in line for line in lines):
            raise X2LError(f"{out}: holds results of an earlier version; choose another folder")
        self.done = {key(line) for line in lines}

    def __enter__(self) -> Results:
        self._file = self.path.open("ab")
        lock(self._file, self.path.parent)
        _drop_torn_line(self.path)
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def append(self, line: Line) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        self.done.add(key(line))


def key(line: Line) -> tuple[str, str]:
    """The key of a line: its row, and what it answers."""
    return line["row"], line["asked"]


def counted(out: Path) -> list[Line]:
    """Every complete line that answers what is asked (see run.json), which earlier versions do not tell."""
    asked = read_json(out / RUN).get("asked")
    if asked is None:
        return [line | {"asked": f"{line['video']} {line['question']}"} for line in read(out)]
    hashes = {each for of_video in asked.values() for each in of_video.values()}
    return [line for line in read(out) if line.get("asked") in hashes]


def read(out: Path) -> list[Line]:
    """Every complete line. Raises X2LError naming file and line if one is not a result."""
    return list(_lines(out / RESULTS))


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
