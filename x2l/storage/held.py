"""What a file of tensors holds: the prefix and chunks of an index, each tensor once, with its checksum.

A tensor that several levels share is stored once, and so is a KV that has several names. Each is called by
what it is first written for, such as "chunk 3 2x keys".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from x2l.quantised import Bits, PackedKV
from x2l.storage.files import synced
from x2l.storage.tensor_file import TensorFile, checksum
from x2l.types import KV, ChunkKV, Level

CHECKSUMS = "xxh3_64"
"""Key: of each tensor by its name. It is named after the hash: another one is another key."""
HELD = "held"
"""Key of a file's metadata: what it holds, as JSON."""


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

    def to(self, device) -> PackedKV:
        return self.packed().to(device)

    def materialise(self) -> KV:
        return self.packed().materialise()


def write(path: Path, prefix: KV | None, chunks: Iterable[ChunkKV]) -> None:
    """Write a file, and wait until it is on the disk."""
    writer = _Writer()
    held = writer.held(prefix, chunks)
    save_file(writer.tensors, path, metadata={HELD: json.dumps(held)})
    synced(path)


def held_by(file: TensorFile) -> dict[str, Any]:
    """What a file says that it holds. Raises LookupError or ValueError if it does not."""
    return json.loads(file.notes[HELD])


def read(file: TensorFile, held: Mapping[str, Any]) -> tuple[KV | None, tuple[ChunkKV, ...]]:
    """The prefix, if the file holds it, and the chunks, whose levels stay on disk."""
    levels = {name: _stored_level(file, kv) for name, kv in held["kvs"].items()}
    prefix = levels[held["prefix"]].materialise() if held.get("prefix") else None
    return prefix, tuple(_chunk(entry, levels, file) for entry in held["chunks"])


class _Writer:
    """Collects tensors under names, each once, with their checksums."""

    def __init__(self):
        self.tensors: dict[str, Tensor] = {}
        self._kvs: dict[str, dict] = {}
        self._kv_names: dict[int, str] = {}
        self._tensor_names: dict[tuple, str] = {}
        self._storages: set[int] = set()
        self._seen: list[Any] = []  # keeps objects alive, so that their id and address stay theirs

    def held(self, prefix: KV | None, chunks: Iterable[ChunkKV]) -> dict[str, Any]:
        """What the file is to hold; fills `tensors`."""
        first = {} if prefix is None else {"prefix": self._kv(prefix, "prefix")}
        body = first | {"chunks": [self._chunk(chunk) for chunk in chunks], "kvs": self._kvs}
        return body | {CHECKSUMS: {name: checksum(tensor) for name, tensor in self.tensors.items()}}

    def _chunk(self, chunk: ChunkKV) -> dict[str, Any]:
        name = f"chunk {chunk.index}"
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
        self._kv_names[id(level)] = of
        self._seen.append(level)
        parts, facts = _written(level)
        tensors = {part: self._tensor(tensor, f"{of} {part}") for part, tensor in parts.items()}
        self._kvs[of] = tensors | facts
        return of

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
