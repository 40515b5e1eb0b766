"""The chunks that share most of the relevance between them: no k to tune."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from x2l.selectors._plan import TwoLevels, best_first
from x2l.standard_scores import standard_scores
from x2l.types import VideoIndex, X2LError


@dataclass
class TopP(TwoLevels):
    """The fewest chunks that hold a share `p` of the softmax over the chunks' standard scores.

    temperature: of the softmax; the lower, the fewer chunks.
    Without scores, none.

    Source: nucleus sampling (arXiv 1904.09751), section 3.1, of chunks in the place of tokens.
    """

    p: float = 0.5
    temperature: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.p <= 1:
            raise X2LError(f"selector.p: {self.p}, expected a share above 0 and at most 1")
        if self.temperature <= 0:
            raise X2LError(f"selector.temperature: {self.temperature}, expected above 0")

    def chosen(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        if scores is None:
            return ()
        shares = (standard_scores(scores) / self.temperature).softmax(dim=0)
        order = best_first(shares)
        held_before = shares[order].cumsum(dim=0) - shares[order]
        return order[: int((held_before < self.p).sum())]
