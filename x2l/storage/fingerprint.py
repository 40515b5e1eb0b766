"""Short fingerprints of files and weights, so that an index can name what it was made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from xxhash import xxh3_128

ADAPTER_CONFIG = "adapter_config.json"
_SAMPLE_BYTES = 1 << 20
_TENSOR_SAMPLE_BYTES = 1 << 16


def file_fingerprint(path: Path) -> str:
    """sha256 (16 hex digits) of a file's size, first and last megabyte: quick for any size."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLE_BYTES))
        file.seek(max(0, size - _SAMPLE_BYTES))
        digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def whole_fingerprint(path: Path) -> str:
    """XXH3 (128 bits, 32 hex digits) of all of a file."""
    digest = xxh3_128()
    with path.open("rb") as file:
        while part := file.read(_SAMPLE_BYTES):
            digest.update(part)
    return digest.hexdigest()


def checkpoint_fingerprint(folder: Path) -> str:
    """sha256 (16 hex digits) of a checkpoint's configuration and of the start of every tensor."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        _update_with_weights(digest, path)
    return digest.hexdigest()[:16]


def adapter_fingerprint(folder: Path) -> str:
    """sha256 (16 hex digits) of adapters' weights and configuration, wherever their base lies."""
    config = json.loads((folder / ADAPTER_CONFIG).read_bytes())
    config.pop("base_model_name_or_path", None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path in sorted(folder.glob("*.safetensors")):
        _update_with_weights(digest, path)
    return digest.hexdigest()[:16]


def _update_with_weights(digest: hashlib._Hash, path: Path) -> None:
    """A fine-tuned copy differs anywhere, so every tensor is sampled, not only the ends of the file."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = file.read(header_bytes)
        digest.update(header)
        for entry in json.loads(header).values():
            if "data_offsets" in entry:
                start, end = entry["data_offsets"]
                file.seek(8 + header_bytes + start)
                digest.update(file.read(min(end - start, _TENSOR_SAMPLE_BYTES)))
