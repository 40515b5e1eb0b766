"""Short fingerprints of files, so that an index can name what it was made from."""

from __future__ import annotations

import hashlib
from pathlib import Path

_SAMPLE_BYTES = 1 << 20


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


def folder_fingerprint(folder: Path, patterns: tuple[str, ...] = ("config.json", "*.safetensors")) -> str:
    """The folder's name and a fingerprint of its configuration and weights."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        digest.update(f"{path.name} {file_fingerprint(path)}\n".encode())
    return f"{folder.resolve().name}@{digest.hexdigest()[:16]}"
