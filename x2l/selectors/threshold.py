"""As many chunks in detail as stand out: no k to tune."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from x2l.selectors._plan import TwoLevels, best_first
from x2l.standard_scores import standard_scores
from x2l.types import VideoIndex, X2LError


@dataclass
class Threshold(TwoLevels):
    """The chunks whose score lies `above` standard deviations or more over the video's mean, best first.

    above: by chance a fiftieth of the chunks stands out by 2, a fifteenth by 1.5: of hundreds, too many.
    fewest: how many are re-loaded even if fewer stand out (3: never less than the paper's top 3).
    most: how many at most; None = no limit.
    Without scores, none.

    Source: none. Differs: the paper (Video-X^2L, section 3.4) takes a fixed number.
    """

    above: float = 2.0
    fewest: int = 3
    most: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.fewest < 0:
            raise X2LError(f"selector.fewest: {self.fewest}, expected 0 or more chunks")
        if self.most is not None and self.most < self.fewest:
            raise X2LError(f"selector.most: {self.most}, expected {self.fewest} (fewest) or more")

    def chosen(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        if scores is None:
            return ()
        outstanding = int((standard_scores(scores) >= self.above).sum())
        return best_first(scores)[: max(self.fewest, outstanding)][: self.most]
