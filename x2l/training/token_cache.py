"""Visual tokens on disk: a video that comes again is not decoded and embedded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from x2l.chunkers import ChunkFrames
from x2l.pipeline import Read
from x2l.storage.files import make_folder, write_bytes
from x2l.types import Chunk

_TENSORS = ("visual_tokens", "is_text", "positions", "deepstack")
_NUMBERS = ("index", "next_position", "frames_per_step")


@dataclass(frozen=True)
class TokenCache:
    """One file for each video, named by what decides its tokens.

    identity: of the backbone and of the oracle, whose features are kept too.
    """

    folder: Path
    identity: str

    def path(self, fingerprint: Mapping[str, Any], chunk_frames: ChunkFrames) -> Path:
        """Path of a video's tokens."""
        decisive = json.dumps([self.identity, dict(fingerprint), chunk_frames], sort_keys=True)
        return self.folder / f"{hashlib.sha256(decisive.encode()).hexdigest()[:32]}.safetensors"

    def save(self, path: Path, read: Sequence[Read]) -> None:
        """Keep chunks without their frames and facts of the video, and what the oracle stored about them."""
        make_folder(self.folder)
        tensors, numbers = {}, []
        for i, (chunk, features) in enumerate(read):
            tensors |= {f"{i}/{name}": tensor for name, tensor in _tensors(chunk).items()}
            for key, prepared in features.items():
                tensors |= {json.dumps([i, key, name]): tensor for name, tensor in prepared.items()}
            numbers.append({name: getattr(chunk, name) for name in _NUMBERS})
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(path, save(on_cpu, {"chunks": json.dumps(numbers)}))

    def load(self, path: Path, device: torch.device) -> list[Read]:
        """Tokens that were kept, on a device."""
        with safe_open(path, "pt") as file:
            numbers = json.loads(file.metadata()["chunks"])
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
        features: list[dict[str, dict[str, Tensor]]] = [{} for _ in numbers]
        for name in [name for name in stored if name.startswith("[")]:
            i, key, feature = json.loads(name)
            features[i].setdefault(key, {})[feature] = stored.pop(name)
        chunks = [
            Chunk(
                times_s=stored[f"{i}/times_s"].numpy(),
                **{name: stored[f"{i}/{name}"].to(device) for name in _TENSORS if f"{i}/{name}" in stored},
                **known,
            )
            for i, known in enumerate(numbers)
        ]
        return list(zip(chunks, features, strict=True))


def _tensors(chunk: Chunk) -> dict[str, Tensor]:
    given = {name: getattr(chunk, name) for name in _TENSORS}
    kept = {name: tensor for name, tensor in given.items() if tensor is not None}
    return kept | {"times_s": torch.from_numpy(chunk.times_s)}


assert {*_TENSORS, *_NUMBERS, "times_s", "frames", "video"} == {field.name for field in fields(Chunk)}
