"""A VideoIndex on disk: one safetensors file and a JSON manifest, read by memory map.

A tensor that several levels share is stored once, and so is a KV that has several names. Each is called by
what it is first written for, such as "chunk 3 2x keys", and has a checksum in the manifest. Everything is
written beside its destination and renamed, so that an index is either complete or not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol, runtime_checkable

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from x2l.config.paths import local_path
from x2l.errors import X2LError
from x2l.quantised import Bits, PackedKV
from x2l.storage.tensor_file import TensorFile, checksum
from x2l.types import KV, ChunkKV, Geometry, IndexSpec, Level, VideoIndex

FORMAT = "x2l-index"
FORMAT_VERSION = 4
READABLE = (2, 3, 4)
"""Format versions that are read; 2 has no checksums, 3 no packed levels."""
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
CHECKSUMS = "xxh3_64"
"""Key of the manifest: of each tensor by its name. It is named after the hash: another one is another key."""


@runtime_checkable
class HasIdentity(Protocol):
    """The part of a Backbone that an index must agree with."""

    @property
    def identity(self) -> str: ...

    @property
    def geometry(self) -> Geometry: ...


@dataclass(frozen=True)
class StoredLevel:
    """A level on disk. Its sizes are known from the file's header; materialise() maps its tensors."""

    file: TensorFile = field(repr=False)
    tensors: Mapping[str, str]
    rotated: bool
    num_tokens: int
    num_bytes: int

    def materialise(self) -> KV:
        """Raises X2LError naming file and chunk if a tensor is not what was written."""
        return KV(**self._parts(), rotated=self.rotated)

    def _parts(self) -> dict[str, Tensor]:
        return {part: self.file.tensor(name) for part, name in self.tensors.items()}


@dataclass(frozen=True)
class StoredPackedLevel(StoredLevel):
    """A packed level on disk: a device is given it as it is."""

    bits: Bits

    def packed(self) -> PackedKV:
        """Raises X2LError naming file and chunk if a tensor is not what was written."""
        return PackedKV.of_tensors(self._parts(), self.bits, self.rotated)

    def to(self, device: torch.device | str) -> PackedKV:
        return self.packed().to(device)

    def materialise(self) -> KV:
        return self.packed().materialise()


def save(index: VideoIndex, directory: str | Path) -> None:
    """Write `index` as a directory, replacing an index that is there.

    A KV and a PackedKV are written as they are, any other level as the KV that it becomes.

    Raises X2LError if `directory` exists and is anything but an x2l index or empty.
    """
    directory = local_path(directory)
    require_replaceable(directory)
    writer = _Writer()
    body = writer.manifest(index)
    with _complete_or_absent(directory) as partial:
        save_file(writer.tensors, partial / TENSORS, metadata={"manifest": _digest(body)})
        body["tensors_bytes"] = (partial / TENSORS).stat().st_size
        body["tensors_header"] = TensorFile(partial / TENSORS).header_checksum()
        (partial / MANIFEST).write_text(json.dumps(body, indent=1), encoding="utf-8")
        shutil.copymode(partial / MANIFEST, partial / TENSORS)  # safetensors' is the owner's alone


def load(directory: str | Path, verify: bool = True) -> VideoIndex:
    """Read an index; levels stay on disk until they are materialised.

    verify: hold each tensor against its checksum when it is first read; one of an index without any is not.
    Raises X2LError naming the file that is missing, damaged, or not of this format version.
    """
    body, file = _open(local_path(directory), verify)
    levels = {name: _stored_level(file, kv) for name, kv in body["kvs"].items()}
    return VideoIndex(
        prefix=levels[body["prefix"]].materialise(),
        chunks=tuple(_chunk(entry, levels, file) for entry in body["chunks"]),
        spec=IndexSpec(**{**body["spec"], "geometry": Geometry(**body["spec"]["geometry"])}),
    )


def verify(directory: str | Path) -> bool:
    """Hold everything in an index against its checksums; whether it has any.

    Raises X2LError naming the file, and the tensors in it that are not what was written.
    """
    body, file = _open(local_path(directory))
    if damaged := file.damaged():
        others = f" and {len(damaged) - 10} others" if len(damaged) > 10 else ""
        raise X2LError(f"{file.path}: damaged: {', '.join(damaged[:10])}{others}")
    return CHECKSUMS in body


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
    """Collects tensors under names, each once, with their checksums."""

    def __init__(self):
        self.tensors: dict[str, Tensor] = {}
        self.kvs: dict[str, dict] = {}
        self._kv_names: dict[int, str] = {}
        self._tensor_names: dict[tuple, str] = {}
        self._storages: set[int] = set()
        self._seen: list[Any] = []  # keeps objects alive, so that their id and address stay theirs

    def manifest(self, index: VideoIndex) -> dict[str, Any]:
        """The manifest of `index`; fills `tensors`."""
        prefix = self._kv(index.prefix, "prefix")
        chunks = [self._chunk(chunk, f"chunk {i}") for i, chunk in enumerate(index.chunks)]
        body = {"format": FORMAT, "format_version": FORMAT_VERSION, "spec": asdict(index.spec)}
        body |= {"prefix": prefix, "chunks": chunks, "kvs": self.kvs}
        body[CHECKSUMS] = {name: checksum(tensor) for name, tensor in self.tensors.items()}
        return json.loads(json.dumps(body))  # as it will be read back: lists, string keys

    def _chunk(self, chunk: ChunkKV, name: str) -> dict[str, Any]:
        return {
            **{number: getattr(chunk, number) for number in _CHUNK_NUMBERS},
            "levels": {
                str(ratio): self._kv(level, f"{name} {ratio}x") for ratio, level in chunk.levels.items()
            },
            "features": {
                oracle: {
                    feature: self._tensor(tensor, f"{name} oracle {i} {feature}")
                    for feature, tensor in features.items()
                }
                for i, (oracle, features) in enumerate(chunk.features.items())
            },
        }

    def _kv(self, level: Level, of: str) -> str:
        if id(level) in self._kv_names:
            return self._kv_names[id(level)]
        name = self._kv_names[id(level)] = f"kv{len(self._kv_names)}"
        self._seen.append(level)
        parts, facts = _written(level)
        tensors = {part: self._tensor(tensor, f"{of} {part}") for part, tensor in parts.items()}
        self.kvs[name] = tensors | facts
        return name

    def _tensor(self, tensor: Tensor, name: str) -> str:
        view = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if view not in self._tensor_names:
            self._seen.append(tensor)
            self._tensor_names[view] = name
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
    if (version := body.get("format_version")) not in READABLE:
        raise X2LError(f"{path}: format_version {version!r}, expected one of {READABLE}")
    return body


def _open(directory: Path, verify: bool = True) -> tuple[dict[str, Any], TensorFile]:
    """The manifest and the mapped file, if each is the one that the other was written with."""
    body, path = _read_manifest(directory / MANIFEST), directory / TENSORS
    expected_bytes, header = (body.pop(key, None) for key in ("tensors_bytes", "tensors_header"))
    if not path.is_file():
        raise X2LError(f"{path}: missing")
    if (num_bytes := path.stat().st_size) != expected_bytes:
        raise X2LError(f"{path}: {num_bytes} bytes, expected {expected_bytes}")
    file = TensorFile(path, body.get(CHECKSUMS) if verify else None)
    if file.notes.get("manifest") != _digest(body):
        raise X2LError(f"{directory / MANIFEST}: damaged, or not the manifest of this {TENSORS}")
    if header not in (None, file.header_checksum()):
        raise X2LError(f"{path}: damaged, its header is not what was written")
    return body, file


def _digest(body: Mapping[str, Any]) -> str:
    """Of a manifest without its checksums: one that is damaged fits no tensor."""
    decisive = {key: value for key, value in body.items() if key != CHECKSUMS}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _written(level: Level) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a level by the name of their part, and what else there is to know of it."""
    level = level.packed() if isinstance(level, StoredPackedLevel) else level
    if isinstance(level, PackedKV):
        parts, facts = level.tensors(), {"bits": level.keys.bits, "rotated": level.rotated}
    else:
        kv = level.materialise()
        parts, facts = {part: getattr(kv, part) for part in _KV_PARTS}, {"rotated": kv.rotated}
    return {part: tensor for part, tensor in parts.items() if tensor is not None}, facts


_KV_PARTS = ("keys", "values", "positions", "counts")
_FACTS = ("bits", "rotated")


def _stored_level(file: TensorFile, kv: dict[str, Any]) -> StoredLevel:
    facts = {name: kv[name] for name in _FACTS if name in kv}
    tensors = {part: name for part, name in kv.items() if part not in facts}
    held = [name for part, name in tensors.items() if part.startswith(("keys", "values"))]
    return (StoredPackedLevel if "bits" in facts else StoredLevel)(
        file=file,
        tensors=tensors,
        num_tokens=file.shape(tensors["positions"])[-1],
        num_bytes=sum(map(file.num_bytes, held)),
        **facts,
    )


_CHUNK_NUMBERS = ("index", "start_s", "end_s", "num_frames", "num_visual_tokens", "next_position")


def _chunk(entry: dict[str, Any], levels: Mapping[str, StoredLevel], file: TensorFile) -> ChunkKV:
    return ChunkKV(
        **{name: entry[name] for name in _CHUNK_NUMBERS},
        levels={int(ratio): levels[name] for ratio, name in entry["levels"].items()},
        features={
            oracle: {name: file.tensor(tensor) for name, tensor in features.items()}
            for oracle, features in entry["features"].items()
        },
    )
