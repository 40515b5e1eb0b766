"""The gold answer to "which chunks matter?", where a data set states it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Backbone, Oracle
from x2l.oracles._timeline import Span, reaches_s
from x2l.types import Question, VideoIndex


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
        scores = torch.tensor([float(_overlaps(reach_s, spans_s)) for reach_s in reaches_s(index.chunks)])
        return scores if scores.any() else None


def _overlaps(reach_s: Span, spans_s: Iterable[Span]) -> bool:
    """Both end before their end."""
    return any(start_s < reach_s[1] and reach_s[0] < end_s for start_s, end_s in spans_s)
