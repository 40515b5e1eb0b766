"""No selection: the single-level baselines (all L-KVs, all H-KVs)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Selector
from x2l.selectors._plan import in_index
from x2l.types import Plan, VideoIndex, X2LError


@dataclass
class Constant(Selector):
    """One ratio for every chunk, whatever the question; None = the lowest of the index.

    Source: Video-X^2L (arXiv 2506.21184), Table 3, row "Video-XL: 2x".
    """

    uses_scores = False

    ratio: int | None = None

    def __post_init__(self):
        if self.ratio is not None and self.ratio < 1:
            raise X2LError(f"selector.ratio: {self.ratio} keeps no chunk, expected 1 or more")

    def choose(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Plan:
        ratio = in_index("ratio", self.ratio, min(index.ratios), index)
        return Plan((ratio,) * len(index.chunks)).with_scores(scores)
