"""A baseline: chunks spread evenly over the video in detail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from x2l.selectors._plan import DetailSelector
from x2l.types import VideoIndex


@dataclass
class Uniform(DetailSelector):
    """The middle chunk of each of `k` equal parts of the video, whatever the question.

    Source: Video-X^2L (arXiv 2506.21184), Table 3, row "Heuristic: Uniform".
    """

    uses_scores = False

    def pick(self, k: int, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        num_chunks = len(index.chunks)
        return ((2 * part + 1) * num_chunks // (2 * k) for part in range(k))
