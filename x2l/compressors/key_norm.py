"""Keys of small norm are attended to most: keep those."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from x2l.engine.chunkwise import ScorerCompressor
from x2l.types import KV


@dataclass
class KeyNorm(ScorerCompressor):
    """Keeps the tokens whose keys have the smallest norms; every layer and head keeps its own.

    [layers, kv_heads, tokens, head_dim] become [layers, kv_heads, tokens // ratio, head_dim], one token
    at least. Rotation leaves norms as they are. Counts: equal shares, see ScorerCompressor.

    Source: A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression (arXiv 2406.11430).
    Differs: it works on each chunk, and on every layer; there the first two are left whole.
    """

    def score(self, kv: KV) -> Float[Tensor, "*batch layers kv_heads tokens"]:
        return -kv.keys.norm(dim=-1)
