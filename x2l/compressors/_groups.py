"""Groups of a chunk's tokens, each of which becomes one token: the mean of all in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from x2l.rounding import in_full_precision
from x2l.types import KV, expanded

Groups = tuple[Float[Tensor, "groups tokens"], Int[Tensor, " groups"]]
"""Which tokens each group holds (1, else 0), and the token where it stands, in order."""


def keys_of_videos(kv: KV) -> Iterable[Float[Tensor, "layers kv_heads tokens head_dim"]]:
    """Keys of each video of a batch, in float32, to form groups by."""
    return kv.keys.detach().float().reshape(-1, *kv.keys.shape[-4:])


def means_of_groups(kv: KV, groups: Sequence[Groups]) -> KV:
    """[..., tokens, head_dim] become [..., groups, head_dim]; keys before rotation.

    groups: of each video of a batch, equally many. The mean is that of the tokens, whatever each stands for;
    a group counts for what its tokens stood for together.
    """
    batch = kv.keys.shape[:-4]
    parts = zip(*groups, strict=True)
    holds, stands = (torch.stack(part).view(*batch, *part[0].shape) for part in parts)
    sizes = holds.sum(dim=-1)
    means = (holds / sizes[..., None])[..., None, None, :, :]
    with in_full_precision(kv.keys.device.type):
        counts = sizes if kv.counts is None else (holds @ kv.counts.to(holds)[..., None])[..., 0]
        keys, values = (means @ part.float() for part in (kv.keys, kv.values))
    places = expanded(kv.positions, (*batch, *kv.positions.shape[-3:-1]))
    return KV(
        keys.to(kv.keys),
        values.to(kv.values),
        places.gather(-1, stands[..., None, None, :].expand(*places.shape[:-1], -1)),
        counts=counts,
    )
