"""The gold answer to "which chunks matter?", where a data set states it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Backbone, Oracle
from x2l.types import ChunkKV, Question, VideoIndex


@dataclass
class Annotated(Oracle):
    """1 for chunks that overlap a gold time span of the question, else 0: the upper bound of any oracle.

    Abstains where the question has no spans, or none that a chunk shows.

    Source: Video-X^2L (arXiv 2506.21184), section 3.4, with a relevance oracle that is always right.
    Differs: not in the paper, whose oracles are all models.
    """

    def score(
        self, question: Question, index: VideoIndex, backbone: Backbone
    ) -> Float[Tensor, " chunks"] | None:
        spans_s = question.gold_spans_s or ()
        scores = torch.tensor([float(_overlaps(reach_s, spans_s)) for reach_s in _reaches_s(index.chunks)])
        return scores if scores.any() else None


def _reaches_s(chunks: Sequence[ChunkKV]) -> list[tuple[float, float]]:
    """From where to where each chunk shows the video.

    Its last frame stands until the next chunk's first; the last of all for as long as frames do on average.
    """
    starts_s, num_steps = [chunk.start_s for chunk in chunks], sum(chunk.num_frames for chunk in chunks) - 1
    step_s = (chunks[-1].end_s - starts_s[0]) / num_steps if num_steps else math.inf
    return list(zip(starts_s, [*starts_s[1:], chunks[-1].end_s + step_s], strict=True))


def _overlaps(reach_s: tuple[float, float], spans_s: Iterable[tuple[float, float]]) -> bool:
    """Both end before their end."""
    return any(start_s < reach_s[1] and reach_s[0] < end_s for start_s, end_s in spans_s)
