"""Another selector's plan, with the first and the last chunks in detail."""

from __future__ import annotations

from dataclasses import dataclass

from x2l.selectors._widened import Widened
from x2l.types import Plan, X2LError


@dataclass
class AlwaysEdges(Widened):
    """`num` chunks at either end of the video in detail, whatever the question.

    Source: the release of Video-X^2L, which keeps the two ends at the low ratio; there it is the compressor
    that does (`vst`'s edge_ratio), which costs the coarse level of those chunks.
    """

    num: int = 1

    def __post_init__(self):
        if self.num < 0:
            raise X2LError(f"selector.num: {self.num}, expected 0 or more chunks")

    def more(self, plan: Plan, detailed: set[int]) -> set[int]:
        last = len(plan.ratios) - 1
        return {i for i in range(last + 1) if min(i, last - i) < self.num}
