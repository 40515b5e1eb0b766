"""Mean pooling of neighbouring keys and values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Compressor
from x2l.types import KV


@dataclass
class MeanPool(Compressor):
    """Mean of every `ratio` neighbouring keys and values; a shorter last group is pooled too.

    Keys are pooled before rotation, so that a mean of keys is not a mean of angles.
    Source: Video-XL-2 (arXiv 2506.19225), bi-level KVs by pooling.
    Differs: there a remainder is dropped and the first and last block stay dense.
    """

    requires = frozenset({"unrotated_keys"})

    def compress(self, kv: KV, ratio: int) -> KV:
        return KV(
            keys=mean_of_groups(kv.keys, ratio),
            values=mean_of_groups(kv.values, ratio),
            positions=mean_of_groups(kv.positions[..., None].double(), ratio)[..., 0].long(),
        )


def mean_of_groups(x: Float[Tensor, "*shape tokens dim"], size: int) -> Float[Tensor, "*shape groups dim"]:
    """Mean over consecutive groups of `size` tokens; the last group may be shorter."""
    return torch.stack([group.mean(dim=-2) for group in x.split(size, dim=-2)], dim=-2)
