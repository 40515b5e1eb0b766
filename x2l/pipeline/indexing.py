"""Index: a video is cut, read, looked at by the oracle, and compressed, chunk by chunk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from x2l import registry
from x2l.ahead import ahead
from x2l.chunkers import spelling
from x2l.clock import Clock
from x2l.host_memory import HostMemory
from x2l.interfaces import Backbone, Chunker, Compressor, Oracle
from x2l.storage import store
from x2l.storage.fingerprint import whole_fingerprint
from x2l.types import KV, Chunk, ChunkKV, Clip, IndexSpec, Level, VideoIndex, X2LError, moved
from x2l.video import Footage, Sampling, open_video

Source = Footage | str | Path
"""A video that is opened already, or its path."""
Features = Mapping[str, Mapping[str, Tensor]]
"""What oracles store about a chunk, by their key."""
Read = tuple[Chunk, Features]
"""What the language model reads of a clip, and what the oracle stores of it."""
OnChunk = Callable[[ChunkKV], Any] | None
"""Given each chunk of a video when it is compressed."""


COMPRESSOR_WEIGHTS = "compressor_weights"
"""Where an index tells the fingerprint of its compressor's own weights."""


def opened(video: Source, sampling: Sampling, progress: bool) -> Footage:
    """The video; a path is opened with a sampling."""
    return video if isinstance(video, Footage) else open_video(video, sampling, progress=progress)


def chunk_lengths(chunker: Chunker, video: Footage, backbone: Backbone, progress: bool) -> list[int]:
    """Frames of each chunk. Raises X2LError if they are not those of the video."""
    lengths = chunker.lengths(video, backbone, progress)
    if sum(lengths) != video.num_frames or min(lengths, default=1) < 1:
        name = registry.name_of(type(chunker))
        raise X2LError(f"chunker {name}: expected chunks of {video.num_frames} frames in all, got {lengths}")
    return lengths


@contextmanager
def clips(video: Footage, lengths: Sequence[int], doing: str, progress: bool) -> Iterator[Iterator[Clip]]:
    """A clip for each chunk, behind a progress bar; the next is decoded while one is worked on."""
    with closing(ahead(video.clips(lengths))) as decoded:
        yield iter(tqdm(decoded, doing, len(lengths), unit="chunk", delay=1, disable=not progress))


def read(
    backbone: Backbone,
    oracle: Oracle,
    clips: Iterable[Clip],
    position: int,
    clock: Clock | None = None,
    first: int = 0,
) -> Iterator[Read]:
    """Each clip as the language model reads it, from a position on, with what the oracle stores of it.

    first: number of the first of these chunks.
    """
    # Where nobody asks for the seconds, nobody waits for a device.
    clock = clock or Clock(torch.device("cpu"))
    oracles = {inner.key: inner for inner in oracle.with_inner()}
    for number, clip in enumerate(clock.spans("decode", clips), first):
        with clock.span("embed"):
            chunk = replace(backbone.read(number, clip, position), video=clip.video)
            position = chunk.next_position
        if position is None:
            name = registry.name_of(type(backbone))
            raise X2LError(f"backbone {name}: read() must say next_position, where the chunk ends")
        with clock.span("prepare"), torch.no_grad():
            features = _prepared(chunk, oracles, backbone)
        yield chunk, features


def _prepared(chunk: Chunk, oracles: Mapping[str, Oracle], backbone: Backbone) -> Features:
    """Features that the oracle and those it asks store of a chunk, by their keys, in host memory."""
    prepared = {key: oracle.prepare(chunk, backbone) for key, oracle in oracles.items()}
    return {
        key: {name: tensor.cpu() for name, tensor in features.items()}
        for key, features in prepared.items()
        if features
    }


def encode(
    backbone: Backbone,
    compressor: Compressor,
    prefix: KV,
    read: Iterable[Read],
    ratios: Sequence[int],
    before: Sequence[ChunkKV] = (),
) -> Iterator[ChunkKV]:
    """Compress chunks behind the prefix, one after the other, on the backbone's device.

    before: chunks of the video that were compressed earlier, which come before these.
    """
    return Ending(_encoded(backbone, compressor, prefix, read, ratios, before))


class Ending(Iterator[ChunkKV]):
    """The chunks of one video. Raises X2LError when it is asked for more after it has said that it ended.

    A generator would say so again: clips that came later would be lost without a word.
    """

    def __init__(self, chunks: Iterator[ChunkKV]):
        self._chunks, self._has_ended = chunks, False

    def __next__(self) -> ChunkKV:
        if self._has_ended:
            raise X2LError("encode: the video ended with its last clip, expected clips that come before that")
        try:
            return next(self._chunks)
        except StopIteration:
            self._has_ended = True
            raise


def _encoded(
    backbone: Backbone,
    compressor: Compressor,
    prefix: KV,
    read: Iterable[Read],
    ratios: Sequence[int],
    before: Sequence[ChunkKV],
) -> Iterator[ChunkKV]:
    features: dict[int, Features] = {}

    def chunks() -> Iterator[Chunk]:
        for chunk, prepared in read:
            features[chunk.index] = prepared
            yield chunk

    made = (
        compressor.resume(backbone, prefix, before, chunks(), ratios)
        if before
        else compressor.encode(backbone, prefix, chunks(), ratios)
    )
    for chunk in made:
        yield replace(chunk, features=features.pop(chunk.index))


def telling(chunks: Iterable[ChunkKV], on_chunk: OnChunk) -> Iterator[ChunkKV]:
    """The chunks; each is told before it is handed on."""
    for chunk in chunks:
        if on_chunk is not None:
            on_chunk(chunk)
        yield chunk


def in_host_memory(chunk: ChunkKV, host: HostMemory) -> ChunkKV:
    """Off the device; a KV is all there when the host memory has been waited for.

    What is one object stays one object.
    """

    def held(level: Level) -> Level:
        return level.mapped(host.hold) if isinstance(level, KV) else moved(level, "cpu")

    apart = {id(level): level for level in chunk.levels.values()}
    kept = {key: held(level) for key, level in apart.items()}
    return replace(chunk, levels={ratio: kept[id(level)] for ratio, level in chunk.levels.items()})


def made_with(compressor: Compressor, ratios: Sequence[int], chunker: Chunker) -> dict[str, Any]:
    """The fields that an index was made with. Raises X2LError for a field that is not plain data."""
    made = {"compressor": registry.describe(compressor), "ratios": list(ratios)}
    weights = {COMPRESSOR_WEIGHTS: compressor.identity} if compressor.identity else {}
    return made | {"chunk_frames": spelling(chunker)} | weights


def key_of(backbone: Backbone, recipe: dict[str, Any], oracle: Oracle, video: Footage) -> str:
    """Hash (32 hex digits) of all that an index depends on, but the name of the video.

    recipe: as from `made_with`. A file is hashed as a whole.
    """
    content = {name: value for name, value in video.fingerprint().items() if name != "file"}
    if video.path.is_file():
        content["whole"] = whole_fingerprint(video.path)
    asked = [inner for inner in oracle.with_inner() if type(inner).prepare is not Oracle.prepare]
    stored = {inner.key: inner.beside(video.facts) for inner in asked}
    weights = {"backbone": backbone.identity, "geometry": asdict(backbone.geometry)}
    made_from = {**weights, **recipe, "oracles": stored, "video": content, "format": store.FORMAT_VERSION}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]


def require_same_weights(index: VideoIndex, compressor: Compressor) -> None:
    """Raise X2LError if the index was made with other weights of the compressor than it has."""
    made, given = index.spec.recipe.get(COMPRESSOR_WEIGHTS, ""), compressor.identity
    if made != given:
        raise X2LError(f"index: was made with compressor weights {made or 'none'}, not {given or 'none'}")


def spec_of(backbone: Backbone, recipe: dict[str, Any], video: Footage, clock: Clock) -> IndexSpec:
    """The part of an index that tells where it comes from."""
    fingerprint = video.fingerprint()
    return IndexSpec(backbone.identity, backbone.geometry, recipe, fingerprint, dict(clock.seconds))


def require_same_frames(index: VideoIndex, video: Footage) -> None:
    """Raise X2LError if the index was made from other frames."""
    made, given = index.spec.video, json.loads(json.dumps(video.fingerprint()))
    for name in ("sha256", "sampling", "num_frames"):
        if made.get(name) != given[name]:
            raise X2LError(f"{video.path}: {name} is {given[name]}, the index was made from {made.get(name)}")


def with_features(index: VideoIndex, read: Iterable[Read]) -> VideoIndex:
    """The index, with what an oracle stores about each chunk beside what others did."""
    chunks = (
        replace(chunk, features={**chunk.features, **features})
        for chunk, (_, features) in zip(index.chunks, read, strict=True)
    )
    return replace(index, chunks=tuple(chunks))
