"""The first tokens of a chunk and its most recent ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from x2l.engine.chunkwise import ChunkCompressor
from x2l.errors import require
from x2l.types import KV


@dataclass
class Streaming(ChunkCompressor):
    """Keeps the first `sinks` tokens of a chunk and its last ones, `tokens // ratio` together, one at least.

    [layers, kv_heads, tokens, head_dim] become [layers, kv_heads, tokens // ratio, head_dim]; all layers
    and heads keep the same ones. Counts: equal shares, so that a chunk is heard as if it were whole.

    sinks: at most half of what is kept.

    Source: StreamingLLM (arXiv 2309.17453), section 3.2.
    Differs: there one window slides over the whole stream, and what leaves it is lost. Here each chunk is
    a stream of its own, so that every part of the video leaves some tokens; the sinks of the whole, which
    stand in the prefix, always stay.
    """

    sinks: int = 4

    def __post_init__(self):
        super().__post_init__()
        require(self.sinks >= 0, "compressor.sinks", "an integer of 0 or more", self.sinks)

    def compress(self, kv: KV, ratio: int) -> KV:
        kept = max(1, kv.num_tokens // ratio)
        sinks = min(self.sinks, kept // 2)
        recent = kv.num_tokens - (kept - sinks)
        return kv.select(torch.cat((torch.arange(sinks), torch.arange(recent, kv.num_tokens))))
