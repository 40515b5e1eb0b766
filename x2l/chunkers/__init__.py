"""Chunkers: where a video is cut. A recipe spells one as a number of frames, a name or {name, **fields}."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from x2l import registry
from x2l.errors import X2LError
from x2l.interfaces import Chunker

ChunkFrames = int | str | dict[str, Any]


def as_spec(given: Any) -> str | dict[str, Any]:
    """The spec that `registry.build` takes; a number is that of fixed chunks. Raises X2LError for others."""
    names = registry.names("chunker")
    if isinstance(given, dict) or (isinstance(given, str) and given in names):
        return given
    if isinstance(given, int) and given is not True and given >= 1:
        return {"name": "fixed", "frames": given}
    expected = " or ".join(["a positive integer", *(name for name in names if name != "fixed")])
    raise X2LError(f"chunk_frames: expected {expected}, got {given!r}")


def make_chunker(given: ChunkFrames) -> Chunker:
    """The chunker that `chunk_frames` of a recipe spells. Raises X2LError naming what is wrong in it."""
    return registry.build("chunker", as_spec(given), "chunk_frames")


def spelling(chunker: Chunker) -> ChunkFrames:
    """The shortest way to spell a chunker: indexes, kept tokens and results are filed under it."""
    described = registry.describe(chunker)
    if described["name"] == "fixed":
        return described["frames"]
    own = {f.name: f.default for f in fields(chunker)}
    has_defaults = all(described.get(name) == default for name, default in own.items())
    return described["name"] if has_defaults else described
