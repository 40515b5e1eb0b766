"""A VideoIndex on disk: one safetensors file and a JSON manifest, read by memory map.

A tensor that several levels share is stored once, and so is a KV that has several names. Everything
is written beside its destination and renamed, so that an index is either complete or not there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol, runtime_checkable

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from x2l.errors import X2LError
from x2l.types import KV, ChunkKV, Geometry, IndexSpec, Level, VideoIndex

FORMAT = "x2l-index"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"


@runtime_checkable
class HasIdentity(Protocol):
    """The part of a Backbone that an index must agree with."""

    @property
    def identity(self) -> str: ...

    @property
    def geometry(self) -> Geometry: ...


@dataclass(frozen=True)
class StoredLevel:
    """A level on disk. Its sizes are known from the file's header; materialise() maps its tensors.

    The tensors are views of the mapped file: pages are read when they are used.
    """

    file: Any = field(repr=False)
    tensors: Mapping[str, str]
    rotated: bool
    num_tokens: int
    num_bytes: int

    def materialise(self) -> KV:
        parts = {part: self.file.get_tensor(name) for part, name in self.tensors.items()}
        return KV(**parts, rotated=self.rotated)


_KV_PARTS = ("keys", "values", "positions", "counts")


def save(index: VideoIndex, directory: str | Path) -> None:
    """Write `index` as a directory, replacing an index that is there. Packed levels are written unpacked.

    Raises X2LError if `directory` exists and is anything but an x2l index or empty.
    """
    directory = Path(directory)
    require_replaceable(directory)
    writer = _Writer()
    body = writer.manifest(index)
    with _complete_or_absent(directory) as partial:
        save_file(writer.tensors, partial / TENSORS, metadata={"manifest": _digest(body)})
        body["tensors_bytes"] = (partial / TENSORS).stat().st_size
        (partial / MANIFEST).write_text(json.dumps(body, indent=1), encoding="utf-8")


def load(directory: str | Path) -> VideoIndex:
    """Read an index; levels stay on disk until they are materialised.

    Raises X2LError naming the file that is missing, damaged, or not of this format version.
    """
    directory = Path(directory)
    body = _read_manifest(directory / MANIFEST)
    file = _open_tensors(directory / TENSORS, body)
    levels = _levels(file, body["kvs"])
    return VideoIndex(
        prefix=levels[body["prefix"]].materialise(),
        chunks=tuple(_chunk(entry, levels, file) for entry in body["chunks"]),
        spec=IndexSpec(**{**body["spec"], "geometry": Geometry(**body["spec"]["geometry"])}),
    )


def check(index: VideoIndex, backbone: HasIdentity) -> None:
    """Raise X2LError, naming both values, if `index` was made with another model or geometry."""
    made, identity = index.spec, backbone.identity
    differences = [] if made.backbone == identity else [f"backbone {made.backbone!r}, not {identity!r}"]
    for name, value in asdict(made.geometry).items():
        if value != (wanted := getattr(backbone.geometry, name)):
            differences.append(f"{name} {value!r}, not {wanted!r}")
    if differences:
        raise X2LError(f"index: was made with {'; '.join(differences)}")


class _Writer:
    """Collects tensors under names, each once."""

    def __init__(self):
        self.tensors: dict[str, Tensor] = {}
        self.kvs: dict[str, dict] = {}
        self._kv_names: dict[int, str] = {}
        self._tensor_names: dict[tuple, str] = {}
        self._storages: set[int] = set()
        self._seen: list[Any] = []  # keeps objects alive, so that their id and address stay theirs

    def manifest(self, index: VideoIndex) -> dict[str, Any]:
        """The manifest of `index`; fills `tensors`."""
        prefix = self._kv(index.prefix)
        chunks = [self._chunk(chunk) for chunk in index.chunks]
        body = {"format": FORMAT, "format_version": FORMAT_VERSION, "spec": asdict(index.spec)}
        body |= {"prefix": prefix, "chunks": chunks, "kvs": self.kvs}
        return json.loads(json.dumps(body))  # as it will be read back: lists, string keys

    def _chunk(self, chunk: ChunkKV) -> dict[str, Any]:
        return {
            **{name: getattr(chunk, name) for name in _CHUNK_NUMBERS},
            "levels": {str(ratio): self._kv(level) for ratio, level in chunk.levels.items()},
            "features": {
                oracle: {name: self._tensor(tensor) for name, tensor in features.items()}
                for oracle, features in chunk.features.items()
            },
        }

    def _kv(self, level: Level) -> str:
        if id(level) in self._kv_names:
            return self._kv_names[id(level)]
        name = self._kv_names[id(level)] = f"kv{len(self._kv_names)}"
        self._seen.append(level)
        kv = level.materialise()
        parts = {part: getattr(kv, part) for part in _KV_PARTS}
        self.kvs[name] = {part: self._tensor(tensor) for part, tensor in parts.items() if tensor is not None}
        self.kvs[name]["rotated"] = kv.rotated
        return name

    def _tensor(self, tensor: Tensor) -> str:
        view = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if view not in self._tensor_names:
            self._seen.append(tensor)
            name = self._tensor_names[view] = f"t{len(self.tensors)}"
            self.tensors[name] = self._alone(tensor.detach().cpu().contiguous())
        return self._tensor_names[view]

    def _alone(self, tensor: Tensor) -> Tensor:
        """The tensor in memory that it shares with no other, as the file format asks."""
        storage = tensor.untyped_storage()
        if storage.nbytes() != tensor.nbytes or storage.data_ptr() in self._storages:
            tensor = tensor.clone()
        self._storages.add(tensor.untyped_storage().data_ptr())
        return tensor


def require_replaceable(directory: Path) -> None:
    """Raise X2LError if `directory` exists and is anything but an x2l index or empty."""
    if not os.path.exists(directory):
        return
    if directory.is_dir():
        files = {path.name for path in directory.iterdir()}
        if not files or (files == {MANIFEST, TENSORS} and _is_index(directory / MANIFEST)):
            return
    raise X2LError(f"{directory}: exists and is not an x2l index, will not overwrite it")


def _is_index(manifest: Path) -> bool:
    try:
        return json.loads(manifest.read_text(encoding="utf-8"))["format"] == FORMAT
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
        _replace(directory, scratch / "new", scratch / "old")
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


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise X2LError(f"{path}: cannot be read, expected an x2l index") from error
    except ValueError as error:
        raise X2LError(f"{path}: damaged, not JSON") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise X2LError(f"{path}: not the manifest of an x2l index")
    if (version := body.get("format_version")) != FORMAT_VERSION:
        raise X2LError(f"{path}: format_version {version!r}, expected {FORMAT_VERSION}")
    return body


def _open_tensors(path: Path, body: dict[str, Any]) -> Any:
    """The mapped file, if it is the one that the manifest was written with."""
    expected_bytes = body.pop("tensors_bytes", None)
    if not path.is_file():
        raise X2LError(f"{path}: missing")
    if (num_bytes := path.stat().st_size) != expected_bytes:
        raise X2LError(f"{path}: {num_bytes} bytes, expected {expected_bytes}")
    try:
        file = safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise X2LError(f"{path}: damaged, {error}") from error
    if (file.metadata() or {}).get("manifest") != _digest(body):
        raise X2LError(f"{path.with_name(MANIFEST)}: damaged, or not the manifest of this {TENSORS}")
    return file


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _levels(file: Any, kvs: Mapping[str, dict]) -> dict[str, StoredLevel]:
    return {name: _stored_level(file, kv) for name, kv in kvs.items()}


def _stored_level(file: Any, kv: dict) -> StoredLevel:
    keys, values = (file.get_slice(kv[part]) for part in ("keys", "values"))
    return StoredLevel(
        file=file,
        tensors={part: kv[part] for part in _KV_PARTS if part in kv},
        rotated=kv["rotated"],
        num_tokens=keys.get_shape()[-2],
        num_bytes=_num_bytes(keys) + _num_bytes(values),
    )


def _num_bytes(header: Any) -> int:
    return math.prod(header.get_shape()) * _ITEM_BYTES[header.get_dtype()]


_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


_CHUNK_NUMBERS = ("index", "start_s", "end_s", "num_frames", "num_visual_tokens", "next_position")


def _chunk(entry: dict[str, Any], levels: Mapping[str, StoredLevel], file: Any) -> ChunkKV:
    return ChunkKV(
        **{name: entry[name] for name in _CHUNK_NUMBERS},
        levels={int(ratio): levels[name] for ratio, name in entry["levels"].items()},
        features={
            oracle: {name: file.get_tensor(tensor) for name, tensor in features.items()}
            for oracle, features in entry["features"].items()
        },
    )
