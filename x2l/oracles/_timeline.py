"""From where to where the chunks of an index show the video."""

from __future__ import annotations

import math
from collections.abc import Sequence

from x2l.types import ChunkKV

Span = tuple[float, float]
"""Start and end in seconds."""


def reaches_s(chunks: Sequence[ChunkKV]) -> list[Span]:
    """From where to where each chunk shows the video.

    Its last frame stands until the next chunk's first; the last of all for as long as frames do on average.
    """
    starts_s, num_steps = [chunk.start_s for chunk in chunks], sum(chunk.num_frames for chunk in chunks) - 1
    step_s = (chunks[-1].end_s - starts_s[0]) / num_steps if num_steps else math.inf
    return list(zip(starts_s, [*starts_s[1:], chunks[-1].end_s + step_s], strict=True))


def overlap_s(one: Span, other: Span) -> float:
    """Seconds that two spans share, 0 where they do not meet."""
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
