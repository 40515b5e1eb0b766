"""The paper's selector: the best chunks in detail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from x2l.selectors._plan import DetailSelector, best_first
from x2l.types import VideoIndex


@dataclass
class TopK(DetailSelector):
    """The `k` chunks with the highest scores; of equal ones the earlier. Without scores, none.

    Source: Video-X^2L (arXiv 2506.21184), section 3.4; k = 3 as in Table 3.
    """

    def pick(self, k: int, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        if scores is None:
            return ()
        return best_first(scores)[:k]
