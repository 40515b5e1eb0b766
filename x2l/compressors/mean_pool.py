"""Mean pooling of neighbouring keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from x2l.engine.chunkwise import ChunkCompressor
from x2l.types import KV


@dataclass
class MeanPool(ChunkCompressor):
    """Mean of every `ratio` neighbouring keys and values.

    remainder: a shorter last group is pooled too, or dropped where it is not the only one.

    Keys are pooled before rotation, so that a mean of keys is not a mean of angles.
    Source: Video-XL-2 (arXiv 2506.19225), bi-level KVs by pooling.
    Differs: there the remainder is dropped and the first and last block stay dense; with remainder "drop" and
    edge_ratio 1 it is the same here.
    """

    remainder: Literal["pool", "drop"] = "pool"

    requires = frozenset({"unrotated_keys"})

    def compress(self, kv: KV, ratio: int) -> KV:
        if self.remainder == "drop" and kv.num_tokens > ratio:
            kv = kv.part(slice(kv.num_tokens // ratio * ratio))
        return pooled(kv, ratio)


def pooled(kv: KV, size: int) -> KV:
    """Mean of every `size` neighbouring tokens, keys before rotation; the last group may be shorter."""
    return KV(
        keys=mean_of_groups(kv.keys, size),
        values=mean_of_groups(kv.values, size),
        positions=mean_of_groups(kv.positions[..., None].double(), size)[..., 0].long(),
        counts=counts_of_groups(kv, size),
    )


def counts_of_groups(kv: KV, size: int) -> Float[Tensor, "*batch groups"]:
    """What every `size` neighbouring tokens stand for together; the last group may be shorter."""
    counts = torch.ones(kv.num_tokens) if kv.counts is None else kv.counts
    return pad(counts, (0, -kv.num_tokens % size)).unflatten(-1, (-1, size)).sum(dim=-1)


def mean_of_groups(x: Float[Tensor, "*shape tokens dim"], size: int) -> Float[Tensor, "*shape groups dim"]:
    """Mean over consecutive groups of `size` tokens; the last group may be shorter."""
    whole = x.shape[-2] // size * size
    groups = x[..., :whole, :].unflatten(-2, (-1, size)).mean(dim=-2)
    if whole == x.shape[-2]:
        return groups
    return torch.cat((groups, x[..., whole:, :].mean(dim=-2, keepdim=True)), dim=-2)
