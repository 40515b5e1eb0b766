"""Several oracles as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.errors import require
from x2l.interfaces import Backbone, Oracle, scores_of
from x2l.oracles.attention import AttentionScore
from x2l.oracles.timestamp import Timestamp
from x2l.types import Question, VideoIndex

RANK_OFFSET = 60
"""Of reciprocal-rank fusion: how little the first places differ."""


@dataclass
class Ensemble(Oracle):
    """Weighted sum of what several oracles say; one that abstains drops out, and if all do, so does this one.

    oracles: default: `attention` and `timestamp`.
    shares: how much each counts; None: equally.
    fusion: "scores" adds scores that are scaled to 0..1 over the video for each oracle (one that scores all
        chunks alike says nothing); "ranks" adds reciprocal ranks, 1 / (60 + rank), of chunks that are equal
        the lowest.

    Source: CombSUM (Fox and Shaw, TREC-2, 1994) and reciprocal-rank fusion (Cormack et al., SIGIR 2009).
    Differs: Video-X^2L asks a single oracle.
    """

    not_prepared = frozenset({"oracles", "shares", "fusion"})  # each oracle stores what it prepares by itself

    oracles: list[Oracle] = field(default_factory=lambda: [AttentionScore(), Timestamp()])
    shares: list[float] | None = None
    fusion: Literal["scores", "ranks"] = "scores"

    def __post_init__(self):
        num = len(self.oracles)
        require(num > 0, "oracle.oracles", "at least one", self.oracles)
        fits = self.shares is None or (len(self.shares) == num and min(self.shares) >= 0)
        require(fits, "oracle.shares", f"{num} numbers, 0 or more", self.shares)

    def score(
        self, question: Question, index: VideoIndex, backbone: Backbone
    ) -> Float[Tensor, " chunks"] | None:
        fused = {"scores": scaled, "ranks": reciprocal_ranks}[self.fusion]
        said = [scores_of(oracle, question, index, backbone) for oracle in self.oracles]
        shares = self.shares or [1.0] * len(said)
        counted = [
            share * fused(scores.float().cpu())
            for share, scores in zip(shares, said, strict=True)
            if scores is not None
        ]
        return torch.stack(counted).sum(dim=0) if counted else None


def scaled(scores: Float[Tensor, " chunks"]) -> Float[Tensor, " chunks"]:
    """From the lowest, 0, to the highest, 1; all 0 where all are equal."""
    low, high = scores.aminmax()
    return torch.zeros_like(scores) if low == high else (scores - low) / (high - low)


def reciprocal_ranks(scores: Float[Tensor, " chunks"]) -> Float[Tensor, " chunks"]:
    """The rank of a chunk is how many score as high as it does, itself included."""
    ranks = (scores >= scores[:, None]).sum(dim=1)
    return 1 / (RANK_OFFSET + ranks)
