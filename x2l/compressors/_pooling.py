"""Means of neighbouring keys and values."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.types import KV


def pooled(kv: KV, size: int) -> KV:
    """Mean of every `size` neighbouring tokens, keys before rotation; the last group may be shorter."""
    counts = torch.ones(kv.num_tokens) if kv.counts is None else kv.counts
    return KV(
        keys=mean_of_groups(kv.keys, size),
        values=mean_of_groups(kv.values, size),
        positions=mean_of_groups(kv.positions[..., None].double(), size)[..., 0].long(),
        counts=torch.stack([group.sum() for group in counts.split(size)]),
    )


def mean_of_groups(x: Float[Tensor, "*shape tokens dim"], size: int) -> Float[Tensor, "*shape groups dim"]:
    """Mean over consecutive groups of `size` tokens; the last group may be shorter."""
    return torch.stack([group.mean(dim=-2) for group in x.split(size, dim=-2)], dim=-2)
