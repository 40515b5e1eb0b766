"""Observations of a pre-fill for compressors: hidden states, queries, attention weights of every layer.

Everything follows from what each layer's projections read, so that one hook for each layer is enough, and the
last layer, whose queries a pre-fill does not need, is seen like the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from x2l.types import KV, Observed

if TYPE_CHECKING:
    from x2l.engine.language_model import LanguageModelBackbone, RotatedMemory


@torch.no_grad()
def observed(
    backbone: LanguageModelBackbone,
    kv: KV,
    memory: RotatedMemory,
    hidden: list[list[Tensor]],
    what: Collection[str],
) -> Observed:
    """Everything asked for.

    hidden: for each layer what its projections read, once for each call of the decoder (blocks of a chunk).
    """
    states = torch.stack([torch.cat(calls, dim=1) for calls in hidden], dim=1)
    states = states if kv.keys.ndim == 5 else states[0]
    queries = attend = None
    if {"queries", "attention"} & set(what):
        queries = _queries(backbone.decoder, states)
    if "attention" in what:
        # Every ratio, and every run of frames between text, asks for the same rows.
        attend = cache(partial(_attention, backbone, kv, memory, queries))
    return Observed(queries, states if "hidden" in what else None, attend)


def _queries(
    decoder: PreTrainedModel, hidden: Float[Tensor, "*batch layers tokens hidden"]
) -> Float[Tensor, "*batch layers heads tokens head_dim"]:
    of_layers = [
        _layer_queries(layer.self_attn, states)
        for layer, states in zip(decoder.layers, hidden.unbind(-3), strict=True)
    ]
    return torch.stack(of_layers, dim=-4)


def _layer_queries(attention: nn.Module, hidden: Tensor) -> Float[Tensor, "*batch heads tokens head_dim"]:
    normalise: Callable = getattr(attention, "q_norm", nn.Identity())  # some models have one
    queries = attention.q_proj(hidden).unflatten(-1, (-1, attention.head_dim))
    return normalise(queries).transpose(-2, -3)


@torch.no_grad()
def _attention(
    backbone: LanguageModelBackbone, kv: KV, memory: RotatedMemory, queries: Tensor, last: int
) -> Float[Tensor, "*batch layers heads last tokens"]:
    """Weights of the last tokens, normalised over the memory and the chunk, as the pre-fill forms them."""
    keys = memory.joined((memory, backbone.placed(kv, memory.num_tokens))).keys
    rotated = backbone.placed(KV(queries, queries, kv.positions), memory.num_tokens).keys[..., -last:, :]
    # Heads that share keys are rows of one product: nothing is copied for each of them.
    by_kv_head = rotated.unflatten(-3, (keys.shape[-3], -1))
    logits = by_kv_head @ keys[..., None, :, :].transpose(-1, -2)
    rows, seen = logits.shape[-2:]
    hidden_yet = torch.ones(rows, seen, dtype=torch.bool, device=keys.device).triu(seen - rows + 1)
    scale = backbone.decoder.layers[0].self_attn.scaling
    weights = (logits.float() * scale).masked_fill(hidden_yet, -torch.inf).softmax(dim=-1)
    return weights[..., -kv.num_tokens :].flatten(-4, -3)
