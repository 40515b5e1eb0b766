"""The plan that most selectors make: some chunks in detail, the others coarse."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Selector
from x2l.types import DROPPED, Plan, VideoIndex, X2LError


@dataclass
class TwoLevels(Selector):
    """Re-loads some chunks in detail (L-KVs) and all others coarsely (H-KVs). A subclass says which.

    detail_ratio: None = the lowest of the index.
    gist_ratio: None = the highest of the index; 0 leaves the other chunks out of the cache.
    """

    detail_ratio: int | None = field(default=None, kw_only=True)
    gist_ratio: int | None = field(default=None, kw_only=True)

    def __post_init__(self):
        if self.detail_ratio is not None and self.detail_ratio < 1:
            raise X2LError(f"selector.detail_ratio: {self.detail_ratio}, expected 1 or more")

    def choose(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Plan:
        chosen = set(self.chosen(scores, index))
        low = in_index("detail_ratio", self.detail_ratio, min(index.ratios), index)
        high = in_index("gist_ratio", self.gist_ratio, max(index.ratios), index)
        ratios = tuple(low if i in chosen else high for i in range(len(index.chunks)))
        return Plan(ratios).with_scores(scores)

    @abstractmethod
    def chosen(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        """Positions in `index.chunks` of the chunks to re-load."""


@dataclass
class DetailSelector(TwoLevels):
    """Re-loads `k` chunks, all where the video has fewer. A subclass picks which."""

    k: int = 3

    def __post_init__(self):
        super().__post_init__()
        if self.k < 0:
            raise X2LError(f"selector.k: {self.k}, expected 0 or more chunks")

    def chosen(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        return self.pick(min(self.k, len(index.chunks)), scores, index)

    @abstractmethod
    def pick(self, k: int, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        """Positions in `index.chunks` of the chunks to re-load; `k` is at most their number."""


def best_first(scores: Float[Tensor, " chunks"]) -> list[int]:
    """Positions of the chunks, the highest score first; of equal ones the earlier."""
    return scores.sort(descending=True, stable=True).indices.tolist()


def in_index(name: str, ratio: int | None, default: int, index: VideoIndex) -> int:
    """The wanted ratio. Raises X2LError naming the selector's field if the index does not hold it."""
    ratio = default if ratio is None else ratio
    if ratio not in (*index.ratios, DROPPED):
        raise X2LError(f"selector.{name}: {ratio}, the index has only {list(index.ratios)}")
    return ratio
