"""Tokens with like keys become one: the clusters that tell a chunk's keys with the least squared error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from x2l.compressors._groups import Groups, keys_of_videos, means_of_groups
from x2l.engine.chunkwise import ChunkCompressor
from x2l.rounding import in_full_precision
from x2l.types import KV


@dataclass
class Cluster(ChunkCompressor):
    """Ward's clusters of a chunk's tokens, `tokens // ratio` of them, one at least; each becomes its mean.

    [layers, kv_heads, tokens, head_dim] become [layers, kv_heads, tokens // ratio, head_dim]; where text
    stands between frames, each run of visual tokens has clusters of its own. Those two clusters merge that
    add least to the squared distances of keys, before rotation, from the means of their clusters, over all
    layers and heads. So what repeats is told once, and what is like nothing else keeps a token of its own,
    where means of neighbours would wash it out. A token stands where the last one in it did. Counts: how
    many are in it.

    Source: Hierarchical Grouping to Optimize an Objective Function (Ward, JASA, 1963).
    Differs: the points are KVs. ToMe (arXiv 2210.09461) merges alike tokens, too, but one only with a token
    of the other half (see Merge).
    """

    requires = frozenset({"unrotated_keys"})

    def compress(self, kv: KV, ratio: int) -> KV:
        return clustered(kv, [ratio])[0]


def clustered(kv: KV, sizes: Sequence[int]) -> list[KV]:
    """Means of clusters that hold so many tokens on average, for each of `sizes`; keys before rotation."""
    if not sizes:
        return []
    nums = [max(1, kv.num_tokens // size) for size in sizes]
    by_video = [clusters(keys, nums) for keys in keys_of_videos(kv)]
    return [means_of_groups(kv, groups) for groups in zip(*by_video, strict=True)]


def clusters(keys: Float[Tensor, "layers kv_heads tokens head_dim"], nums: Sequence[int]) -> list[Groups]:
    """Ward's clusters of tokens by all of their keys, so many each time; each stands at its last token."""
    tokens = keys.shape[-2]
    if keys.is_meta:  # a model on paper: only their number matters
        places = torch.empty(tokens, dtype=torch.long, device=keys.device)
        return [(keys.new_empty(num, tokens), places[:num]) for num in nums]
    gone, into, costs = dendrogram(keys.movedim(-2, 0).flatten(1))
    order, each = costs.argsort(stable=True), torch.arange(tokens, device=keys.device)
    groups = []
    for num in nums:
        merged = order[: tokens - num]
        parent = each.index_copy(0, gone[merged], into[merged])
        for _ in range(tokens.bit_length()):  # each step doubles how far a token sees
            parent = parent[parent]
        stands, of_token = parent.unique(return_inverse=True)
        groups.append((one_hot(of_token, num).T.to(keys), stands))
    return groups


def dendrogram(
    points: Float[Tensor, "points dim"],
) -> tuple[Int[Tensor, " merges"], Int[Tensor, " merges"], Float[Tensor, " merges"]]:
    """Every merge on the way to one cluster: the point that named a cluster, the later one that names it from
    then on, and what the merge adds to the squared error, never less than the merges within it.

    Two clusters that are nearest to each other merge sooner or later, whatever else does (Ward's cost is
    reducible), so each round merges all such pairs at once; usually some multiple of log2(points) rounds.
    """
    with in_full_precision(points.device.type):
        points = points - points.mean(dim=0)
        inner = points @ points.T
    names = torch.arange(len(points), device=points.device)
    sizes, costs = torch.ones_like(inner[0]), torch.zeros_like(inner[0])
    merges = [(names[:0], names[:0], costs[:0])]
    while len(names) > 1:
        added = costs_of_merging(inner, sizes)
        cost, nearest = added.min(dim=-1)
        one = torch.arange(len(names), device=points.device)
        goes = (nearest[nearest] == one) & (one < nearest)
        one, other = one[goes], nearest[goes]
        costs[other] = torch.stack((cost[goes], costs[one], costs[other])).amax(dim=0)
        merges.append((names[one], names[other], costs[other]))
        sizes = sizes.index_add(0, other, sizes[one])
        inner = inner.index_add(0, other, inner[one])
        inner = inner.index_add(1, other, inner[:, one])
        names, sizes, costs = names[~goes], sizes[~goes], costs[~goes]
        inner = inner[~goes][:, ~goes]
    return tuple(torch.cat(parts) for parts in zip(*merges, strict=True))


def costs_of_merging(
    inner: Float[Tensor, "clusters clusters"], sizes: Float[Tensor, " clusters"]
) -> Float[Tensor, "clusters clusters"]:
    """What merging two clusters adds to the squared error, inf for one with itself.

    inner: products of the clusters' sums. |a| |b| / (|a| + |b|) times the squared distance of their means.
    """
    means = inner / (sizes[:, None] * sizes)
    squares = means.diagonal()
    # Symmetric to the bit: of costs that are, the least belongs to a pair that is nearest to each other.
    distances = (squares[:, None] + squares - (means + means.T)).clamp_min(0)
    weights = sizes[:, None] * sizes / (sizes[:, None] + sizes)
    return (weights * distances).fill_diagonal_(torch.inf)
