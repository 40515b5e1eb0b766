"""Tokens with like keys become one, wherever in the chunk they stand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from x2l.compressors._groups import Groups, keys_of_videos, means_of_groups
from x2l.engine.chunkwise import ChunkCompressor
from x2l.types import KV


@dataclass
class Merge(ChunkCompressor):
    """Merges the most alike tokens of a chunk until `tokens // ratio` are left, one at least.

    [layers, kv_heads, tokens, head_dim] become [layers, kv_heads, tokens // ratio, head_dim]. Tokens are
    parted into every first and every second one; each first is bound to the second whose key is most
    alike, and the strongest bonds are merged. Rounds follow until few enough are left; one can halve them
    at best. Keys, before rotation, and values of a merged token are the means of all in it; it stands
    where the one did that others were merged into. Counts: how many are in it.

    Source: ToMe (arXiv 2210.09461), section 3.
    Differs: it merges finished KVs, not tokens between layers. Likeness is the cosine of keys, averaged
    over layers and heads, which merge alike, because a token has one count.
    """

    requires = frozenset({"unrotated_keys"})

    def compress(self, kv: KV, ratio: int) -> KV:
        num_kept = max(1, kv.num_tokens // ratio)
        return means_of_groups(kv, [merged_tokens(keys, num_kept) for keys in keys_of_videos(kv)])


def merged_tokens(keys: Float[Tensor, "layers kv_heads tokens head_dim"], num_kept: int) -> Groups:
    """The tokens that are left, merged until they are few enough."""
    holds = torch.eye(keys.shape[-2], device=keys.device)
    stands = torch.arange(len(holds), device=keys.device)
    while len(holds) > num_kept:
        # A sum points where a mean does.
        of_each = normalize(holds @ keys, dim=-1)
        alike = (of_each[..., ::2, :] @ of_each[..., 1::2, :].transpose(-1, -2)).mean(dim=(0, 1))
        bond, second = alike.max(dim=-1)
        strongest = bond.argsort(descending=True, stable=True)
        gone, others = strongest.tensor_split([min(len(strongest), len(holds) - num_kept)])
        holds = holds.index_add(0, 2 * second[gone] + 1, holds[2 * gone])
        seconds = torch.arange(1, len(holds), 2, device=keys.device)
        left = torch.cat((2 * others, seconds)).sort().values
        holds, stands = holds[left], stands[left]
    return holds, stands
