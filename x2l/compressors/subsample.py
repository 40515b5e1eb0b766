"""Every n-th token and nothing of the others: the plainest way to keep fewer KVs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from x2l.compressors.mean_pool import counts_of_groups
from x2l.engine.chunkwise import ChunkCompressor
from x2l.types import KV


@dataclass
class Subsample(ChunkCompressor):
    """Keeps the last of every `ratio` tokens, which has seen the others; of a shorter last group, its last.

    [layers, kv_heads, tokens, head_dim] become [layers, kv_heads, ceil(tokens / ratio), head_dim]; all
    layers and heads keep the same ones. Counts: a token stands for its group.

    Where the ratio divides the tokens of a row or of a frame, they are of the same columns or cells
    throughout.

    Source: none; the control for methods that choose tokens by what they hold.
    """

    def compress(self, kv: KV, ratio: int) -> KV:
        ends = torch.arange(ratio, kv.num_tokens + ratio, ratio).clamp(max=kv.num_tokens)
        return replace(kv.select(ends - 1), counts=counts_of_groups(kv, ratio))
