"""A VideoIndex on disk: a JSON manifest and files of tensors, read by memory map.

An index that is saved is one file (x2l.storage.held); one that grows gets a file for each chunk
(x2l.storage.growing). Either way a manifest names whole files only, and takes the place of another at once.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol, runtime_checkable

from safetensors import SafetensorError

from x2l.config.paths import local_path
from x2l.errors import X2LError
from x2l.storage import held, manifest
from x2l.storage.files import LOCK, alone_in, synced, turn_in
from x2l.storage.held import CHECKSUMS as CHECKSUMS
from x2l.storage.held import StoredLevel as StoredLevel
from x2l.storage.manifest import FORMAT as FORMAT
from x2l.storage.manifest import FORMAT_VERSION as FORMAT_VERSION
from x2l.storage.manifest import MANIFEST as MANIFEST
from x2l.storage.manifest import TENSORS as TENSORS
from x2l.storage.tensor_file import TensorFile
from x2l.types import Geometry, IndexSpec, VideoIndex

_TRIES = 20
"""So often a reader looks again for an index that is being replaced."""


@runtime_checkable
class HasIdentity(Protocol):
    """The part of a Backbone that an index must agree with."""

    @property
    def identity(self) -> str: ...

    @property
    def geometry(self) -> Geometry: ...


def save(index: VideoIndex, directory: str | Path) -> None:
    """Write `index` as a directory, replacing an index that is there.

    A KV and a PackedKV are written as they are, any other level as the KV that it becomes.
    Raises X2LError if `directory` exists and is anything but an x2l index or empty, and if it grows.
    """
    directory = local_path(directory)
    require_replaceable(directory)
    with _complete_or_absent(directory) as partial:
        held.write(partial / TENSORS, index.prefix, index.chunks)
        segments = [manifest.segment(partial / TENSORS)]
        (partial / MANIFEST).write_text(manifest.text(index.spec, segments, finished=True), encoding="utf-8")
        shutil.copymode(partial / MANIFEST, partial / TENSORS)  # safetensors' is the owner's alone
        synced(partial / MANIFEST)


def load(directory: str | Path, verify: bool = True) -> VideoIndex:
    """Read an index; levels stay on disk until they are materialised. Of one that grows: its whole chunks.

    verify: hold each tensor against its checksum when it is first read; one of an index without any is not.
    Raises X2LError naming the file that is missing, damaged, or not of this format version.
    """
    directory = local_path(directory)
    body, files = _open(directory, verify)
    with _damage_named(directory / MANIFEST):
        parts = [held.read(file, of) for file, of in files]
        chunks = tuple(chunk for _, chunks in parts for chunk in chunks)
        if not chunks:
            raise X2LError(f"{directory}: holds no whole chunk yet")
        return VideoIndex(parts[0][0], chunks, spec_of(body))


def spec_of(body: dict[str, Any]) -> IndexSpec:
    """What a manifest says of how an index was made."""
    return IndexSpec(**{**body["spec"], "geometry": Geometry(**body["spec"]["geometry"])})


def verify(directory: str | Path) -> bool:
    """Hold everything in an index against its checksums; whether it has any.

    Raises X2LError naming the file, and the tensors in it that are not what was written.
    """
    _, files = _open(local_path(directory))
    for file, _ in files:
        if damaged := file.damaged():
            others = f" and {len(damaged) - 10} others" if len(damaged) > 10 else ""
            raise X2LError(f"{file.path}: damaged: {', '.join(damaged[:10])}{others}")
    return all(CHECKSUMS in of for _, of in files)


def check(index: VideoIndex, backbone: HasIdentity) -> None:
    """Raise X2LError, naming both values, if `index` was made with another model or geometry."""
    made, identity, geometry = index.spec, backbone.identity, backbone.geometry
    differences = [] if made.backbone == identity else [f"backbone {made.backbone!r}, not {identity!r}"]
    for name, value in asdict(made.geometry).items():
        if value != (wanted := getattr(geometry, name)):
            differences.append(f"{name} {value!r}, not {wanted!r}")
    if differences:
        raise X2LError(f"index: was made with {'; '.join(differences)}")


def require_replaceable(directory: Path) -> None:
    """Raise X2LError if `directory` exists and is anything but an x2l index or empty."""
    if not os.path.exists(directory):
        return
    if directory.is_dir():
        names = {path.name for path in directory.iterdir() if path.name != LOCK and path.suffix != ".part"}
        others = {name for name in names if not name.endswith(".safetensors")}
        # A writer may be stopped before its first manifest.
        if names <= {manifest.PREFIX} or (others == {MANIFEST} and _is_index(directory / MANIFEST)):
            return
    raise X2LError(f"{directory}: exists and is not an x2l index, will not overwrite it")


def _is_index(path: Path) -> bool:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["format"] == FORMAT
    except (OSError, ValueError, LookupError, TypeError):
        return False


@contextmanager
def _complete_or_absent(directory: Path) -> Iterator[Path]:
    """A directory to write in, which takes the place of `directory` if nothing is raised."""
    directory = directory.absolute()
    scratch = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        (scratch / "new").mkdir()
        yield scratch / "new"
        # One that grows is not taken away from its writer.
        is_growing = (directory / LOCK).exists()
        with turn_in(directory.parent), alone_in(directory) if is_growing else nullcontext():
            _replace(directory, scratch / "new", scratch / "old")
        synced(directory.parent)
    except OSError as error:
        raise X2LError(f"{directory}: cannot be written, {error.strerror}") from error
    except SafetensorError as error:  # a full disk, among others
        raise X2LError(f"{directory}: cannot be written, {error}") from error
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def _replace(directory: Path, new: Path, old: Path) -> None:
    if directory.exists():
        directory.rename(old)
    try:
        new.rename(directory)
    except OSError:
        if old.exists():
            old.rename(directory)
        raise


def _open(directory: Path, verify: bool = True) -> tuple[dict[str, Any], list[tuple[TensorFile, dict]]]:
    """The manifest and the mapped files, if each is the one that it was written with.

    While an index is replaced it is away for a moment, or what is read is of two: then a reader looks again.
    """
    for left in reversed(range(_TRIES)):
        before = _identity(directory)
        try:
            body = manifest.read(directory / MANIFEST)
            with _damage_named(directory / MANIFEST):
                return body, manifest.files(directory, body, verify)
        except X2LError:
            if not left or not _is_being_replaced(directory, before):
                raise
            time.sleep(0.05)
    raise AssertionError


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Whatever a manifest of other contents leads to is an X2LError that names it."""
    try:
        yield
    except X2LError:
        raise
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise X2LError(f"{path}: damaged, not what x2l writes ({reason})") from error


def _is_being_replaced(directory: Path, before: int | None) -> bool:
    return before != _identity(directory) or (
        before is None and any(directory.parent.glob(f".{directory.name}.*"))
    )


def _identity(directory: Path) -> int | None:
    try:
        return directory.stat().st_ino
    except OSError:
        return None
