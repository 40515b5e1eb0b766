"""Index while a video comes: frames are sampled and put into chunks as they come, without a look ahead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8

from x2l.chunkers import spelling
from x2l.chunkers.fixed import Fixed
from x2l.errors import X2LError
from x2l.interfaces import Backbone, Chunker, Compressor
from x2l.pipeline.indexing import made_with
from x2l.types import ChunkKV, Clip, IndexSpec
from x2l.video import Sampling
from x2l.waiting import Waiting

Frame = tuple[UInt8[np.ndarray, "height width 3"], float]
"""A picture (RGB) and when it is shown, in seconds."""

Made = TypeVar("Made")

_ROUNDING_S = 1e-3
"""As for files: containers round times to the millisecond."""


def frames_per_chunk(chunker: Chunker) -> int:
    """Raises X2LError for a chunker that looks at the whole video."""
    if not isinstance(chunker, Fixed):
        raise X2LError(
            f"chunk_frames: {spelling(chunker)!r} looks at all of a video, a stream takes a number"
        )
    return chunker.frames


def spec_of(
    backbone: Backbone,
    compressor: Compressor,
    ratios: Sequence[int],
    chunker: Chunker,
    sampling: Sampling,
    name: str,
    remember: Mapping[str, Any],
) -> IndexSpec:
    """The part of an index that tells where it comes from.

    Raises X2LError for a sampling that has to know how long the video is.
    """
    if sampling.num_frames is not None:
        raise X2LError("sampling.num_frames: spreads frames over a whole video, a stream takes fps")
    video = {"file": name, "sampling": sampling.to_mapping()}
    recipe = {**remember, **made_with(compressor, ratios, chunker)}
    return IndexSpec(backbone.identity, backbone.geometry, recipe, video)


def clips(
    frames: Iterable[Frame],
    fps: float,
    num_frames: int,
    before: Sequence[ChunkKV] = (),
    waiting: Waiting | None = None,
) -> Iterator[Clip]:
    """Sampled frames, so many at a time and what is left at the end; without those that `before` holds.

    A frame is looked at if it is the first at or after some i / fps seconds behind the first one of all.
    With `waiting` the source is live: its frames are new ones, which go on a step behind `before`.
    Raises X2LError for frames of another kind, or of times that do not ascend.
    """
    first_frame = sum(chunk.num_frames for chunk in before)
    held: list[Frame] = []
    if waiting is not None and before:
        frames = _going_on(frames, before[-1].end_s + 1 / fps)
    sampled = _sampled(frames, fps, before)
    for frame in sampled if waiting is None else waiting.taken(sampled):
        held.append(frame)
        if len(held) == num_frames:
            yield _clip(held, first_frame)
            first_frame += len(held)
            held = []
    if held:
        yield _clip(held, first_frame)


def _clip(frames: list[Frame], first_frame: int) -> Clip:
    pictures, times_s = zip(*frames, strict=True)
    if len({picture.shape for picture in pictures}) > 1:
        raise X2LError("frames: expected one size in a chunk, got several")
    return Clip(np.stack(pictures), np.array(times_s, float), first_frame)


def _going_on(frames: Iterable[Frame], from_s: float) -> Iterator[Frame]:
    behind_s = None
    for picture, time_s in frames:
        behind_s = from_s - time_s if behind_s is None else behind_s
        yield picture, time_s + behind_s


def _sampled(frames: Iterable[Frame], fps: float, before: Sequence[ChunkKV]) -> Iterator[Frame]:
    start_s = before[0].start_s if before else None
    seen_s = before[-1].end_s if before else -math.inf
    passed = _passed(seen_s, start_s, fps) if before else -1
    last_s = -math.inf
    for picture, time_s in frames:
        _require_frame(picture, time_s, last_s)
        last_s = time_s
        start_s = time_s if start_s is None else start_s
        if time_s > seen_s and _passed(time_s, start_s, fps) > passed:
            passed = _passed(time_s, start_s, fps)
            yield picture, float(time_s)


def _passed(time_s: float, start_s: float, fps: float) -> int:
    """How many of the times i / fps have passed, less one."""
    return math.floor((time_s - start_s + _ROUNDING_S) * fps)


def _require_frame(picture: Any, time_s: float, last_s: float) -> None:
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
        kind = f"{getattr(picture, 'dtype', type(picture).__name__)} {getattr(picture, 'shape', '')}"
        raise X2LError(f"frames: expected uint8 [height, width, 3] with their seconds, got {kind}")
    if not time_s > last_s:
        raise X2LError(f"frames: expected times that ascend, got {time_s} s behind {last_s} s")


def without_gradients(made: Iterator[Made]) -> Iterator[Made]:
    """Each is made without gradients; who takes them meanwhile has what it had."""
    end = object()
    while True:
        with torch.no_grad():
            each = next(made, end)
        if each is end:
            return
        yield each
