"""Files written complete or not at all, and JSON read with errors that name the file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from x2l.errors import X2LError

try:
    import fcntl
except ModuleNotFoundError:  # not on Windows
    fcntl = None


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises X2LError if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise X2LError(f"{folder}: cannot be made a folder, {error.strerror}") from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Where to write a file that appears at `path` when it is complete. Raises X2LError if that cannot be."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise X2LError(f"{path}: cannot be written, {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def lock(file: IO, folder: Path, wait_s: float = 0.0) -> None:
    """Hold an open file of a run in `folder` until it is closed, by all processes that were forked meanwhile.

    wait_s: how long another run may take to end. Raises X2LError if it does not, with the file closed.
    """
    end = time.monotonic() + wait_s
    while fcntl is not None:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() >= end:
                file.close()
                raise X2LError(f"{folder}: another run is writing there, expected to be alone") from error
            time.sleep(0.1)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, complete or not at all. Raises X2LError if that cannot be."""
    with written_whole(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Raises X2LError if the file cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise X2LError(f"{path}: cannot be read, {error.strerror}") from error
    except ValueError as error:
        raise X2LError(f"{path}: not JSON, {error}") from error
