"""From a plan to a cache: the hybrid memory of Video-X^2L, built once per question.

Source: Video-X^2L (arXiv 2506.21184), section 3.4: L-KVs of the selected chunks and H-KVs of the others,
in temporal order. Positions are re-assigned from 0 by default, as in the released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from x2l.interfaces import Backbone
from x2l.types import (
    DROPPED,
    KV,
    Level,
    Plan,
    VideoIndex,
    X2LError,
    equal_counts,
    joined_counts,
    joined_positions,
    rotated_alike,
)

Positions = Literal["contiguous", "original"]


class FilledCache(DynamicCache):
    """A cache whose next token stands `position_shift` positions further than its length says.

    tokens_per_chunk: how many tokens of each chunk of the index are in it.
    bias: added to the attention logits of its first tokens (x2l.proportional); None: nothing is.
    """

    position_shift: int = 0
    tokens_per_chunk: tuple[int, ...] = ()
    bias: Float[Tensor, " tokens"] | None = None


def next_position(cache: DynamicCache) -> int:
    """Position of the token behind the cache."""
    return cache.get_seq_length() + getattr(cache, "position_shift", 0)


def assemble(
    index: VideoIndex,
    plan: Plan,
    backbone: Backbone,
    positions: Positions = "contiguous",
    levels: Sequence[KV] | None = None,
) -> FilledCache:
    """The prefix and the planned level of every chunk as a filled cache, on the backbone's device.

    Keys are rotated once: to 0..n-1 along every axis ("contiguous", as in the paper's code), or to where
    their tokens stood in the uncompressed sequence, gaps and all ("original"). generate() extends the cache:
    assemble one per question, or crop it.

    levels: one KV for each chunk that the plan keeps, where they are not those of the index (`Part.refine`).

    Raises X2LError if the plan, the levels or the positions do not fit the index.
    """
    levels = planned_levels(index, plan, backbone.device) if levels is None else levels
    tokens_per_chunk = _tokens_per_chunk(plan, levels)
    kv = concatenate([index.prefix, *levels], backbone.device)
    if positions == "original":
        end = index.chunks[-1].next_position
        if end is None:
            raise X2LError("positions: 'original' needs an index that knows them, expected contiguous")
        target = kv.positions
    else:
        end = kv.num_tokens
        target = torch.arange(end, device=kv.positions.device).expand_as(kv.positions)
    cache = filled_cache(_rotated_keys(kv, backbone, target), kv.values)
    cache.position_shift = end - kv.num_tokens
    cache.tokens_per_chunk = tokens_per_chunk
    cache.bias = _bias(index, plan, levels, backbone)
    return backbone.finish(cache)


def _bias(
    index: VideoIndex, plan: Plan, levels: Sequence[KV], backbone: Backbone
) -> Float[Tensor, " tokens"] | None:
    """Bias of the prefix and the planned levels; one without counts stands for its chunk in equal parts."""
    if not backbone.proportional.beta:
        return None
    kept = [chunk for chunk, ratio in zip(index.chunks, plan.ratios, strict=True) if ratio != DROPPED]
    counts = [
        equal_counts(kv.num_tokens, chunk.num_visual_tokens) if kv.counts is None else kv.counts.cpu()
        for chunk, kv in zip(kept, levels, strict=True)
    ]
    stand_for = torch.cat([torch.ones(index.prefix.num_tokens), *counts]).to(backbone.device)
    return backbone.proportional.bias(stand_for, backbone.base_count)


def _tokens_per_chunk(plan: Plan, levels: Sequence[KV]) -> tuple[int, ...]:
    num_kept = sum(ratio != DROPPED for ratio in plan.ratios)
    if len(levels) != num_kept:
        raise X2LError(f"plan: keeps {num_kept} chunks, got KVs of {len(levels)}")
    sizes = iter(kv.num_tokens for kv in levels)
    return tuple(0 if ratio == DROPPED else next(sizes) for ratio in plan.ratios)


def planned_levels(index: VideoIndex, plan: Plan, device: torch.device | None = None) -> list[KV]:
    """The KV of each chunk that the plan does not drop; a packed level is unpacked on the device."""
    if len(plan.ratios) != len(index.chunks):
        raise X2LError(f"plan: {len(plan.ratios)} ratios for an index of {len(index.chunks)} chunks")
    unknown = set(plan.ratios) - {*index.ratios, DROPPED}
    if unknown:
        raise X2LError(f"plan: ratio {min(unknown)} is not in the index, which has {list(index.ratios)}")
    return [
        _unpacked(chunk.levels[ratio], device)
        for chunk, ratio in zip(index.chunks, plan.ratios, strict=True)
        if ratio != DROPPED
    ]


def _unpacked(level: Level, device: torch.device | None) -> KV:
    """A packed level moves first, so that few bytes do; plain ones move together, in one copy."""
    moves = device is not None and hasattr(level, "to") and not isinstance(level, KV)
    return (level.to(device) if moves else level).materialise()


def concatenate(pieces: Sequence[KV], device: torch.device | None = None) -> KV:
    """One KV of all pieces in order: one buffer and one copy to the device, whatever their number.

    All are as precise as the first. Raises X2LError if only some are rotated.
    """
    first = pieces[0].keys
    # What was unpacked lies on the device already; then all are joined there.
    is_together = all(kv.keys.device == first.device for kv in pieces)
    meet = first.device if is_together or device is None else device
    pieces = [kv.to(device=meet, dtype=first.dtype) for kv in pieces]
    buffer = torch.cat([kv.keys for kv in pieces] + [kv.values for kv in pieces], dim=-2)
    keys, values = buffer.to(device).chunk(2, dim=-2)
    positions = joined_positions(pieces).to(device)
    return KV(keys, values, positions, rotated_alike(pieces), joined_counts(pieces))


def filled_cache(
    keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
    values: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
) -> FilledCache:
    """A cache that holds these (rotated) keys and values without copying them."""
    if keys.ndim == 4:
        keys, values = keys[None], values[None]
    cache = FilledCache()
    for index in range(keys.shape[1]):
        cache.update(keys[:, index, :, :0], values[:, index, :, :0], index)
        cache.layers[index].keys, cache.layers[index].values = keys[:, index], values[:, index]
    return cache


def _rotated_keys(
    kv: KV, backbone: Backbone, target: Int[Tensor, "axes *#batch #layers #kv_heads tokens"]
) -> Tensor:
    rotated = backbone.rotate(kv.keys, target - kv.positions if kv.rotated else target)
    # Keys and values share one buffer: rotated in place, nothing of it is kept twice.
    return rotated if torch.is_grad_enabled() else kv.keys.copy_(rotated)
