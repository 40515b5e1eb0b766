"""Files written complete or not at all, folders of one run at a time, JSON read with errors that name it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from x2l.errors import X2LError

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None


LOCK = ".lock"
"""A file in a folder that one run writes to."""


def synced(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; Windows has no such thing for folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises X2LError if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise X2LError(f"{folder}: cannot be made a folder, {error.strerror}") from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Opens a file that appears at `path` when it is complete. Raises X2LError if that cannot be.

    It may be read by whom the umask lets, whatever its writer says (safetensors: the owner alone).
    """
    partial = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)
        os.replace(partial, path)
    except OSError as error:
        raise X2LError(f"{path}: cannot be written, {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, by a file `.lock` in it.

    Raises X2LError if one is there already, or the folder cannot be written in.
    """
    try:
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise X2LError(f"{folder}: cannot be written in, {error.strerror}") from error
    with file:
        lock(file, folder)
        # A loading process may outlive a run that is killed, and would keep the next one out.
        os.register_at_fork(after_in_child=file.close)
        yield


@contextmanager
def turn_in(folder: Path) -> Iterator[None]:
    """Wait until no other process, or thread, is between these lines for the same folder."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def lock(file: IO, folder: Path) -> None:
    """Hold an open file of a run in `folder` until it is closed.

    Raises X2LError if another run holds it, and closes it.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise X2LError(f"{folder}: another run is writing there, expected to be alone") from error
    except OSError:  # a file system without locks: better a run without one than none
        return


def bytes_in(folder: Path) -> int:
    """Size of all files in a folder, not of those in folders below it."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, complete or not at all. Raises X2LError if that cannot be."""
    with written_whole(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """The content, in any UTF, with a byte order mark or without.

    Raises X2LError if the file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise X2LError(f"{path}: cannot be read, {error.strerror}") from error
    except ValueError as error:
        raise X2LError(f"{path}: not JSON, {error}") from error
