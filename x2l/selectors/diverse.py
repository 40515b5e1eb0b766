"""Relevant chunks that do not repeat each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from x2l.selectors._plan import DetailSelector
from x2l.standard_scores import standard_scores
from x2l.types import VideoIndex, X2LError


@dataclass
class Diverse(DetailSelector):
    """`k` chunks one after the other, each the best of relevance minus likeness to those already chosen.

    relevance: its share of the two, 0..1; 1 is top_k.

    Likeness is the cosine of two chunks' mean values over all layers at the coarsest level, each without the
    video's mean. Without scores, none.

    Source: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), of chunks in the place of
    documents; scores are standard scores.
    """

    relevance: float = 0.7

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.relevance <= 1:
            raise X2LError(f"selector.relevance: {self.relevance}, expected a share between 0 and 1")

    def pick(self, k: int, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        if scores is None:
            return ()
        worth, likeness = self.relevance * standard_scores(scores).cpu(), _likeness(index)
        chosen: list[int] = []
        for _ in range(k):
            repeats = likeness[:, chosen].amax(dim=1) if chosen else torch.zeros_like(worth)
            marginal = worth - (1 - self.relevance) * repeats
            marginal[chosen] = -torch.inf
            chosen.append(int(marginal.argmax()))
        return chosen


def _likeness(index: VideoIndex) -> Float[Tensor, "chunks chunks"]:
    levels = [chunk.levels[max(index.ratios)].materialise() for chunk in index.chunks]
    means = torch.stack([level.values.float().mean(dim=-2).flatten() for level in levels])
    directions = normalize(means - means.mean(dim=0), dim=-1)
    return directions @ directions.T
