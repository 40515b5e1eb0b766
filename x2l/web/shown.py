"""An answer with what is shown of it: the best of its evidence, with a frame of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from x2l.drawing.thumbnail import thumbnail
from x2l.types import Answer, Span, VideoIndex
from x2l.video import Footage

MOST_SPANS = 8


@dataclass(frozen=True)
class Timing:
    """Seconds to the first token, and on the uncompressed cache, with what is answered there."""

    first_token_s: float
    full_s: float
    full_text: str


@dataclass(frozen=True)
class Shown:
    """An answer to be shown.

    name: of its setting; "": there is one. evidence: the spans of the highest scores, in temporal order.
    thumbnails: data URIs, of the frame in the middle of each. notes: warnings.
    timing: where it was asked for.
    """

    name: str
    index: VideoIndex
    answer: Answer
    duration_s: float
    evidence: Sequence[Span]
    thumbnails: Sequence[str]
    notes: Sequence[str] = ()
    timing: Timing | None = None


def show(name: str, video: Footage, index: VideoIndex, answer: Answer) -> Shown:
    """An answer with its evidence. Raises X2LError if a frame cannot be decoded."""
    evidence = best(answer.evidence)
    pictures = [thumbnail(frame) for frame in video.frames(middles(index, evidence))] if evidence else []
    return Shown(name, index, answer, video.duration_s, evidence, pictures)


def best(evidence: Sequence[Span], most: int = MOST_SPANS) -> list[Span]:
    """The spans of the highest scores, in temporal order."""
    ranked = sorted(evidence, key=lambda span: -math.inf if span.score is None else span.score)
    return sorted(ranked[-most:], key=lambda span: span.chunk)


def middles(index: VideoIndex, spans: Sequence[Span]) -> np.ndarray:
    """Number of the frame in the middle of each span."""
    lengths = np.array([chunk.num_frames for chunk in index.chunks])
    chunks = [span.chunk for span in spans]
    return (lengths.cumsum() - lengths + lengths // 2)[chunks]
