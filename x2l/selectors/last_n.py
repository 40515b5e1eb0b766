"""A baseline: the end of the video in detail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from x2l.selectors._plan import DetailSelector
from x2l.types import VideoIndex


@dataclass
class LastN(DetailSelector):
    """The last `k` chunks, whatever the question.

    Source: Video-X^2L (arXiv 2506.21184), Table 3, row "Heuristic: Last-N".
    """

    uses_scores = False

    def pick(self, k: int, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        return range(len(index.chunks) - k, len(index.chunks))
