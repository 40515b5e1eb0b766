"""The plan of another selector, with more chunks in detail."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Selector
from x2l.selectors._plan import in_index
from x2l.selectors.top_k import TopK
from x2l.types import Plan, VideoIndex


@dataclass
class Widened(Selector):
    """Puts chunks in detail that `inner` leaves coarse. A subclass says which.

    detail_ratio: of both; None = the lowest of the index.
    """

    inner: Selector = field(default_factory=TopK, kw_only=True)
    detail_ratio: int | None = field(default=None, kw_only=True)

    @property
    def uses_scores(self) -> bool:
        return self.inner.uses_scores

    def choose(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Plan:
        plan = self.inner.choose(scores, index)
        low = in_index("detail_ratio", self.detail_ratio, min(index.ratios), index)
        detailed = {i for i, ratio in enumerate(plan.ratios) if ratio == low}
        more = self.more(plan, detailed)
        return replace(plan, ratios=tuple(low if i in more else ratio for i, ratio in enumerate(plan.ratios)))

    @abstractmethod
    def more(self, plan: Plan, detailed: set[int]) -> set[int]:
        """Positions of the chunks to re-load beside those that are (`detailed`)."""
