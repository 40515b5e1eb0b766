"""Many indices under one roof: each by what it was made from, so that equal ones are one.

indices/KEY           an index (x2l.storage.store)
videos/NAME.json      a video by its name, and which index is its own
library.json          what this folder is
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from x2l.errors import X2LError, unknown
from x2l.storage import store
from x2l.storage.files import bytes_in, make_folder, read_json, write_json
from x2l.types import VideoIndex

FORMAT, FORMAT_VERSION = "x2l-library", 1
MARK, INDICES = "library.json", "indices"
_MARK = {"format": FORMAT, "format_version": FORMAT_VERSION}


@dataclass(frozen=True)
class Entry:
    """A video of a library: its index, and the recipe that it is asked with.

    made_from: tells without a look inside whether the video, or how it is to be indexed, has changed.
    """

    key: str
    made_from: dict[str, Any]
    recipe: dict[str, Any]
    num_frames: int
    duration_s: float
    index_bytes: int


class Indices:
    """Indices in a folder, by key (see x2l.pipeline.Pipeline.key).

    max_bytes: together at most; those that were used least recently go first (None: all stay).
    """

    def __init__(self, folder: Path, max_bytes: int | None = None):
        self.folder, self._max_bytes = folder, max_bytes

    def path(self, key: str) -> Path:
        return self.folder / key

    def get(self, key: str, verify: bool = True) -> VideoIndex | None:
        """The index, which counts as used now; None if there is none. Warns of one that is damaged."""
        manifest = self.path(key) / store.MANIFEST
        if not manifest.is_file():
            return None
        try:
            index = store.load(self.path(key), verify)
        except X2LError as error:
            warnings.warn(f"{error}; it is made anew", stacklevel=2)
            return None
        with suppress(OSError):  # of somebody else's folder
            os.utime(manifest)
        return index

    def put(self, key: str, index: VideoIndex) -> None:
        """Keep an index. Raises X2LError if it cannot be written."""
        make_folder(self.folder)
        store.save(index, self.path(key))
        if self._max_bytes is not None:
            self._shrink(self._max_bytes)

    def _shrink(self, max_bytes: int) -> None:
        sizes = self._by_use()
        excess = sum(sizes.values()) - max_bytes
        for path, size in sizes.items():
            if excess <= 0:
                return
            _remove(path)
            excess -= size

    def _by_use(self) -> dict[Path, int]:
        """Bytes of each index, the one that was used least recently first."""
        found = []
        for manifest in self.folder.glob(f"[!.]*/{store.MANIFEST}"):
            with suppress(FileNotFoundError):  # another process takes some away
                found.append((manifest.stat().st_mtime_ns, manifest.parent, bytes_in(manifest.parent)))
        return {path: size for _, path, size in sorted(found)}


def _remove(directory: Path) -> None:
    """Away at once, whatever happens while its files are deleted; who reads them reads on."""
    scratch = Path(mkdtemp(prefix=".old.", dir=directory.parent))
    with suppress(FileNotFoundError):  # another process was faster
        directory.rename(scratch / directory.name)
    shutil.rmtree(scratch, ignore_errors=True)


class Library:
    """Videos by name, each with its index. Raises X2LError for a folder that is something else."""

    def __init__(self, folder: Path):
        self.folder, self.indices = folder, Indices(folder / INDICES)
        body = read_json(folder / MARK)
        if body != _MARK:
            raise X2LError(f"{folder / MARK}: expected {_MARK}, got {body!r:.100}")

    @classmethod
    def make(cls, folder: Path) -> Library:
        """The library in a folder, which may be new. Raises X2LError if it holds other things."""
        make_folder(folder)
        if not is_library(folder):
            if any(path.name != ".lock" for path in folder.iterdir()):
                raise X2LError(f"{folder}: exists and is not an x2l library, will not write there")
            write_json(folder / MARK, _MARK)
        return cls(folder)

    def names(self) -> list[str]:
        """Names of all videos, sorted."""
        files = self._videos.rglob("*.json")
        return sorted(file.relative_to(self._videos).as_posix().removesuffix(".json") for file in files)

    def items(self) -> Iterator[tuple[str, Entry]]:
        return ((name, self.entry(name)) for name in self.names())

    def entry(self, name: str) -> Entry:
        """Raises X2LError naming what is known if `name` is not."""
        if name not in (known := self.names()):
            raise unknown(f"{self.folder}: video {name!r}", name, known)
        return self._read(name)

    def made_from(self, name: str) -> dict[str, Any] | None:
        """What a video whose index is there was made from; None if there is none."""
        if not self._file(name).is_file():
            return None
        entry = self._read(name)
        return entry.made_from if (self.indices.path(entry.key) / store.MANIFEST).is_file() else None

    def add(self, name: str, entry: Entry) -> None:
        """Remember a video, in the place of one of this name."""
        make_folder(self._file(name).parent)
        write_json(self._file(name), asdict(entry))

    def load(self, name: str, verify: bool = True) -> VideoIndex:
        """The index of a video, with the recipe that the video was added with.

        Raises X2LError for an unknown name, and an index that cannot be read.
        """
        entry = self.entry(name)
        index = store.load(self.indices.path(entry.key), verify)
        return replace(index, spec=replace(index.spec, recipe={**entry.recipe, **index.spec.recipe}))

    @property
    def _videos(self) -> Path:
        return self.folder / "videos"

    def _file(self, name: str) -> Path:
        return self._videos / f"{name}.json"

    def _read(self, name: str) -> Entry:
        body = read_json(self._file(name))
        try:
            return Entry(**body)
        except TypeError as error:
            raise X2LError(f"{self._file(name)}: damaged, not an entry of an x2l library") from error


def cache_in(folder: Path, max_bytes: int) -> Indices:
    """Indices in a folder, which may be a library: then all stay, as its videos have names."""
    return Indices(folder / INDICES, None if is_library(folder) else max_bytes)


def is_library(folder: Path) -> bool:
    return os.path.isfile(folder / MARK)
