"""From a plan to a cache: the hybrid memory of Video-X^2L, built once per question.

Source: Video-X^2L (arXiv 2506.21184), section 3.4: L-KVs of the selected chunks and H-KVs of the others,
in temporal order. Positions are re-assigned from 0 by default, as in the released code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from x2l.interfaces import Backbone
from x2l.room import RoomyLayer
from x2l.types import (
    DROPPED,
    KV,
    Level,
    Plan,
    VideoIndex,
    Writable,
    X2LError,
    equal_counts,
    joined_counts,
    joined_positions,
    rotated_alike,
)

Positions = Literal["contiguous", "original"]
SPARE_TOKENS = 512
"""Tokens that are read and written behind an assembled cache before anything in it is copied."""


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
    levels: Sequence[Writable] | None = None,
) -> FilledCache:
    """The prefix and the planned level of every chunk as a filled cache, on the backbone's device.

    Keys are rotated once: to 0..n-1 along every axis ("contiguous", as in the paper's code), or to where
    their tokens stood in the uncompressed sequence, gaps and all ("original"). generate() extends the cache:
    assemble one per question, or crop it.

    levels: one for each chunk that the plan keeps, where they are not those of the index (`Part.refine`).

    Raises X2LError if the plan, the levels or the positions do not fit the index.
    """
    levels = planned_levels(index, plan) if levels is None else levels
    tokens_per_chunk = _tokens_per_chunk(plan, levels)
    kv, rooms = concatenate([index.prefix, *levels], backbone.device)
    if positions == "original":
        end = index.chunks[-1].next_position
        if end is None:
            raise X2LError("positions: 'original' needs an index that knows them, expected contiguous")
        target = kv.positions
    else:
        end = kv.num_tokens
        target = torch.arange(end, device=kv.positions.device).expand(kv.positions[..., :1, :1, :].shape)
    cache = filled_cache(_rotated_keys(kv, backbone, target), kv.values, rooms)
    cache.position_shift = end - kv.num_tokens
    cache.tokens_per_chunk = tokens_per_chunk
    cache.bias = _bias(index, plan, levels, backbone)
    return backbone.finish(cache)


def _bias(
    index: VideoIndex, plan: Plan, levels: Sequence[Writable], backbone: Backbone
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


def _tokens_per_chunk(plan: Plan, levels: Sequence[Writable]) -> tuple[int, ...]:
    num_kept = sum(ratio != DROPPED for ratio in plan.ratios)
    if len(levels) != num_kept:
        raise X2LError(f"plan: keeps {num_kept} chunks, got KVs of {len(levels)}")
    sizes = iter(kv.num_tokens for kv in levels)
    return tuple(0 if ratio == DROPPED else next(sizes) for ratio in plan.ratios)


def planned_levels(
    index: VideoIndex, plan: Plan, ready: Callable[[Level], Writable] = methodcaller("materialise")
) -> list[Writable]:
    """The level of each chunk that the plan does not drop, made ready for a cache: by default its KV."""
    if len(plan.ratios) != len(index.chunks):
        raise X2LError(f"plan: {len(plan.ratios)} ratios for an index of {len(index.chunks)} chunks")
    unknown = set(plan.ratios) - {*index.ratios, DROPPED}
    if unknown:
        raise X2LError(f"plan: ratio {min(unknown)} is not in the index, which has {list(index.ratios)}")
    return [
        ready(chunk.levels[ratio])
        for chunk, ratio in zip(index.chunks, plan.ratios, strict=True)
        if ratio != DROPPED
    ]


def concatenate(
    pieces: Sequence[Writable], device: torch.device | None = None
) -> tuple[KV, Sequence[Tensor]]:
    """One KV of all pieces in order, as precise as the first, and its rooms: see `filled_cache`.

    device: that of the first by default. With gradients there is no room: nothing is overwritten.
    Raises X2LError if only some pieces are rotated.
    """
    first = pieces[0].materialise()
    where = torch.empty(0, dtype=first.keys.dtype, device=device or first.keys.device)
    if torch.is_grad_enabled():
        rooms, joined = (), _copied([piece.materialise() for piece in pieces], where)
    else:
        rooms = _filled_rooms(pieces, first, where)
        joined = [room[..., :-SPARE_TOKENS, :] for room in rooms]
    positions, counts = joined_positions(pieces).to(where.device), joined_counts(pieces)
    return KV(*joined, positions, rotated_alike(pieces), counts), rooms


def _copied(kvs: Sequence[KV], like: Tensor) -> list[Tensor]:
    """Keys and values of all, in memory of their own."""
    parts = [kv.keys for kv in kvs], [kv.values for kv in kvs]
    return [torch.cat([tensor.to(like) for tensor in tensors], dim=-2) for tensors in parts]


def _filled_rooms(pieces: Sequence[Writable], first: KV, like: Tensor) -> list[Tensor]:
    """Memory for keys and for values, with every piece in its place: nothing is held twice."""
    sizes = [*(piece.num_tokens for piece in pieces), SPARE_TOKENS]
    shapes = ((*states.shape[:-2], sum(sizes), states.shape[-1]) for states in (first.keys, first.values))
    rooms = [like.new_empty(shape) for shape in shapes]
    for piece, *places in zip(pieces, *(room.split(sizes, dim=-2)[:-1] for room in rooms), strict=True):
        piece.write(*places)
    return rooms


def filled_cache(
    keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
    values: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
    rooms: Sequence[Float[Tensor, "*batch layers kv_heads more head_dim"]] = (),
) -> FilledCache:
    """A cache that holds these (rotated) keys and values without copying them.

    rooms: where the keys and the values lie, each with room behind them that the cache may write to.
    """
    states = [tensor if tensor.ndim == 5 else tensor[None] for tensor in (keys, values, *rooms)]
    cache = FilledCache()
    cache.layers = [
        RoomyLayer(*layer) for layer in zip(*(tensor.unbind(1) for tensor in states), strict=True)
    ]
    return cache


def _rotated_keys(
    kv: KV, backbone: Backbone, target: Int[Tensor, "axes *#batch #layers #kv_heads tokens"]
) -> Tensor:
    rotate = backbone.rotate if torch.is_grad_enabled() else backbone.rotate_
    return rotate(kv.keys, target - kv.positions if kv.rotated else target)
