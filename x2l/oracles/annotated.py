"""The gold answer to "which chunks matter?", where a data set states it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Backbone, Oracle
from x2l.types import ChunkKV, Question, VideoIndex


@dataclass
class Annotated(Oracle):
    """1 for chunks that overlap a gold time span of the question, else 0: the upper bound of any oracle.

    Abstains where the question has no spans.

    Source: Video-X^2L (arXiv 2506.21184), section 3.4, with a relevance oracle that is always right.
    Differs: not in the paper, whose oracles are all models.
    """

    def score(
        self, question: Question, index: VideoIndex, backbone: Backbone
    ) -> Float[Tensor, " chunks"] | None:
        if not question.gold_spans_s:
            return None
        return torch.tensor([float(_overlaps(chunk, question.gold_spans_s)) for chunk in index.chunks])


def _overlaps(chunk: ChunkKV, spans_s: tuple[tuple[float, float], ...]) -> bool:
    """A chunk reaches up to and including its last frame; a span ends before its end."""
    return any(start_s <= chunk.end_s and chunk.start_s < end_s for start_s, end_s in spans_s)
