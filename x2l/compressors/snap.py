"""The last tokens of a chunk vote by their attention, before any question is known."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool1d

from x2l.engine.chunkwise import ScorerCompressor
from x2l.errors import require
from x2l.types import KV


@dataclass
class Snap(ScorerCompressor):
    """Keeps the tokens that the last tokens of the chunk attend to; every layer and head keeps its own.

    [layers, kv_heads, tokens, head_dim] become [layers, kv_heads, tokens // ratio, head_dim], one token
    at least. Counts: equal shares, see ScorerCompressor.

    window: how many of the chunk's last tokens vote. Votes of heads that share keys are averaged.
    kernel: votes are averaged over so many neighbours, so that what stands together is kept together.

    Source: SnapKV (arXiv 2404.14469), section 4.
    Differs: there the window is the end of the prompt, where the question is, and is kept whole. Here it
    is part of the video like what it votes on: its tokens are voted on too, by those that can see them.
    """

    window: int = 16
    kernel: int = 5

    observes = frozenset({"attention"})

    def __post_init__(self):
        super().__post_init__()
        require(self.window > 0, "compressor.window", "a positive integer", self.window)
        is_odd = self.kernel > 0 and self.kernel % 2 == 1
        require(is_odd, "compressor.kernel", "a positive odd integer", self.kernel)

    def score(self, kv: KV) -> Float[Tensor, "*batch layers kv_heads tokens"]:
        attention = kv.attention(self.window)
        votes = attention.sum(dim=-2) / (attention > 0).sum(dim=-2).clamp(min=1)
        smooth = avg_pool1d(
            votes.flatten(0, -2), self.kernel, stride=1, padding=self.kernel // 2, count_include_pad=False
        )
        return smooth.view_as(votes)
