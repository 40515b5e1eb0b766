"""The manifest of an index: what made it, and the files that hold it, each bound by its header's checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from x2l.errors import X2LError
from x2l.storage.held import CHECKSUMS, held_by
from x2l.storage.tensor_file import TensorFile
from x2l.types import IndexSpec

FORMAT = "x2l-index"
FORMAT_VERSION = 4
READABLE = (2, 3, 4)
"""Format versions that are read; 2 has no checksums, 2 and 3 hold everything in the manifest of one file."""
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
PREFIX = "prefix.safetensors"
"""First file of an index that grows."""


def segment(path: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    header = TensorFile(path).header_checksum()
    return {"file": path.name, "bytes": path.stat().st_size, "header": header}


def text(spec: IndexSpec, segments: list[dict[str, Any]], finished: bool) -> str:
    """A manifest. finished: no chunk is to come."""
    body = {"format": FORMAT, "format_version": FORMAT_VERSION, "finished": finished}
    body |= {"spec": asdict(spec), "segments": segments}
    body = json.loads(json.dumps(body))  # as it will be read back: lists, string keys
    return json.dumps(body | {"digest": _digest(body)}, indent=1) + "\n"


def read(path: Path) -> dict[str, Any]:
    """The body of a manifest that is whole. Raises X2LError naming it otherwise."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise X2LError(f"{path}: cannot be read, expected an x2l index") from error
    except ValueError as error:
        raise X2LError(f"{path}: damaged, not JSON") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise X2LError(f"{path}: not the manifest of an x2l index")
    version = body.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise X2LError(f"{path}: format_version {version}, of a later x2l, expected one of {READABLE}")
    if version not in READABLE:
        raise X2LError(f"{path}: format_version {version!r}, expected one of {READABLE}")
    if version >= 4 and body.pop("digest", None) != _digest(body):
        raise X2LError(f"{path}: damaged, its digest differs")
    return body


def files(directory: Path, body: Mapping[str, Any], verify: bool) -> list[tuple[TensorFile, dict[str, Any]]]:
    """The files of an index, with what each holds.

    Raises X2LError naming a file that is missing, damaged, or not the one that the manifest was written with.
    """
    if body["format_version"] < 4:
        return [_earlier(directory, dict(body), verify)]
    return [_segment(directory / each["file"], each, verify) for each in body["segments"]]


def _segment(path: Path, expected: Mapping[str, Any], verify: bool) -> tuple[TensorFile, dict[str, Any]]:
    if path.name != expected["file"]:
        raise X2LError(f"{path}: expected a file beside the manifest")
    file = _sized(path, expected["bytes"])
    if file.header_checksum() != expected["header"]:
        raise X2LError(f"{path}: damaged, its header is not what was written")
    held = held_by(file)
    file.expect(held[CHECKSUMS] if verify else None)
    return file, held


def _earlier(directory: Path, body: dict[str, Any], verify: bool) -> tuple[TensorFile, dict[str, Any]]:
    """Of versions 2 and 3: the file holds the digest of the manifest, which is what it holds."""
    path = directory / TENSORS
    num_bytes, header = (body.pop(key, None) for key in ("tensors_bytes", "tensors_header"))
    file = _sized(path, num_bytes)
    if file.notes.get("manifest") != _digest({key: value for key, value in body.items() if key != CHECKSUMS}):
        raise X2LError(f"{directory / MANIFEST}: damaged, or not the manifest of this {TENSORS}")
    if header not in (None, file.header_checksum()):
        raise X2LError(f"{path}: damaged, its header is not what was written")
    file.expect(body.get(CHECKSUMS) if verify else None)
    return file, body


def _sized(path: Path, expected_bytes: int) -> TensorFile:
    if not path.is_file():
        raise X2LError(f"{path}: missing")
    if (num_bytes := path.stat().st_size) != expected_bytes:
        raise X2LError(f"{path}: {num_bytes} bytes, expected {expected_bytes}")
    return TensorFile(path)


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
