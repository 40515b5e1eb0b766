"""The plan that most selectors make: some chunks in detail, the others coarse."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Selector
from x2l.types import Plan, VideoIndex, X2LError


@dataclass
class DetailSelector(Selector):
    """Re-loads `k` chunks at the lowest ratio of the index (L-KVs) and all others at the highest (H-KVs).

    A subclass picks which; `k` = how many, all chunks where the video has fewer.
    """

    k: int = 3

    def __post_init__(self):
        if self.k < 0:
            raise X2LError(f"selector.k: {self.k}, expected 0 or more chunks")

    def choose(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Plan:
        k = min(self.k, len(index.chunks))
        return detailed(index, self.pick(k, scores, index)).with_scores(scores)

    @abstractmethod
    def pick(self, k: int, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        """Positions in `index.chunks` of the chunks to re-load; `k` is at most their number."""


def detailed(index: VideoIndex, chosen: Iterable[int]) -> Plan:
    """The lowest ratio for the chosen chunks, the highest for all others."""
    chosen = set(chosen)
    low, high = min(index.ratios), max(index.ratios)
    return Plan(tuple(low if i in chosen else high for i in range(len(index.chunks))))
