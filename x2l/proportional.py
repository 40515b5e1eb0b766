"""Proportional attention: a cached token that stands for many is heard like as many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.errors import require


@dataclass(frozen=True)
class Proportional:
    """Adds beta * ln(n / base) to the attention logit of a cached token that stands for n raw ones.

    beta: 0 leaves attention as the release of Video-X^2L has it; 1 gives a token of 32x sixteen times the
        weight of one of 2x, as if it were there so often.
    base: n of tokens that are heard as they are, and of denser ones; None: that of the densest level that the
        backbone's model was trained on (`Backbone.base_count`).

    Source: proportional attention, ToMe (arXiv 2210.09461), section 3, where base is 1.
    Differs: what is cached of a video only; the prefix, text between frames, the question and the answer
    have a bias of 0.
    """

    beta: float = 0.0
    base: float | None = None

    def __post_init__(self):
        require(self.beta >= 0, "proportional.beta", "a number of 0 or more", self.beta)
        require(self.base is None or self.base >= 1, "proportional.base", "a number of 1 or more", self.base)

    def bias(self, counts: Float[Tensor, " tokens"], base: float) -> Float[Tensor, " tokens"] | None:
        """Bias of tokens that stand for so many; None where it is 0 for all. base: the backbone's."""
        bias = self.beta * torch.log((counts / (self.base or base)).clamp(min=1))
        return bias if bias.any() else None


OFF = Proportional()
