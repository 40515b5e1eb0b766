"""sdpa attention that is causal from the lower right, without a mask: rows that are read behind a cache.

transformers hands sdpa a dense mask for them, which grows with rows times keys and keeps a GPU from its flash
kernel. Here a GPU is told the rule instead; a CPU, whose kernel does not know it, attends to the cache and,
causally, to the rows themselves (x2l.split_attention).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from x2l.split_attention import Queries, can_split, folded, split_attention

CAUSAL_SDPA = "x2l_sdpa"
"""The name that transformers knows it by."""
Cached = Float[Tensor, "batch kv_heads seen head_dim"]
Bias = Float[Tensor, " seen"]


def without_mask(decoder: PreTrainedModel) -> None:
    """Let a decoder that attends by sdpa do so without a mask; others stay as they are."""
    # Of the decoder only: set_attn_implementation would reach the tower that is one of its modules.
    if decoder.config._attn_implementation == "sdpa":
        decoder.config._attn_implementation = CAUSAL_SDPA


@contextmanager
def attending(decoder: PreTrainedModel, implementation: str) -> Iterator[None]:
    """While it is open, the decoder attends by another implementation."""
    before = decoder.config._attn_implementation
    decoder.config._attn_implementation = implementation
    try:
        yield
    finally:
        decoder.config._attn_implementation = before


def biased_mask(bias: Bias, num_read: int) -> Float[Tensor, "1 1 read seen"]:
    """The bias of every key as an additive causal mask of the last `num_read` tokens."""
    num_cached = len(bias) - num_read
    later = torch.ones(num_read, len(bias), dtype=torch.bool, device=bias.device).triu(num_cached + 1)
    return bias.masked_fill(later, torch.finfo(bias.dtype).min)[None, None]


def _mask(
    *,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    attention_mask: Bool[Tensor, "batch seen"] | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    device: torch.device | str = "cpu",
    **kwargs: Any,
) -> Bool[Tensor, "batch 1 read seen"] | None:
    """None where rows see all up to themselves and are the last of all keys; else transformers' own mask."""
    device = torch.device(device)
    is_plain = allow_is_causal_skip and (local_size is None or kv_length < local_size)
    is_whole = attention_mask is None or attention_mask.all()
    is_last = kv_length == q_offset + q_length
    if is_plain and is_whole and is_last and (device.type != "cpu" or can_split(device)):
        return None
    return sdpa_mask(
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        attention_mask=attention_mask,
        local_size=local_size,
        # Of an empty static cache it would be left out too, where rows are the first of all keys.
        allow_is_causal_skip=allow_is_causal_skip and (q_length == 1 or q_length == kv_length),
        device=device,
        **kwargs,
    )


def _attention(
    module: nn.Module,
    query: Queries,
    key: Cached,
    value: Cached,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    cache_bias: Bias | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch read heads head_dim"], None]:
    """As transformers calls it. cache_bias: added to the logits of every key (see x2l.engine.weighing)."""
    is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    num_read, num_seen = query.shape[2], key.shape[2]
    if attention_mask is None and is_causal and num_read < num_seen:
        attended = _lower_right(query, key, value, cache_bias, dropout, scaling)
        return attended.transpose(1, 2).contiguous(), None
    if cache_bias is not None:
        attention_mask = biased_mask(cache_bias, num_read)
    elif attention_mask is not None and attention_mask.shape[1:] == (1, 1, num_seen):
        attended = _one_row(query, key, value, attention_mask, dropout, scaling)
        return attended.transpose(1, 2).contiguous(), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **kwargs
    )


def _lower_right(
    query: Queries, key: Cached, value: Cached, bias: Bias | None, dropout: float, scale: float | None
) -> Queries:
    num_read, num_seen = query.shape[2], key.shape[2]
    if num_read == 1:
        return _one_row(query, key, value, None if bias is None else bias[None, None, None], dropout, scale)
    if can_split(query.device) and not dropout:
        num_cached = num_seen - num_read
        cached, own = zip(*(states.tensor_split([num_cached], dim=2) for states in (key, value)), strict=True)
        return split_attention(query, cached, own, scale, None if bias is None else bias[:num_cached])
    mask = causal_lower_right(num_read, num_seen) if bias is None else biased_mask(bias, num_read)
    # The flash kernel, which takes half precision only, is the one that takes grouped heads as they are.
    is_grouped = query.dtype in (torch.float16, torch.bfloat16) and bias is None
    if not is_grouped:
        key, value = (repeat_kv(states, query.shape[1] // states.shape[1]) for states in (key, value))
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale, enable_gqa=is_grouped
    )


def _one_row(
    query: Float[Tensor, "batch heads 1 head_dim"],
    key: Cached,
    value: Cached,
    mask: Shaped[Tensor, "#batch 1 1 seen"] | None,
    dropout: float,
    scale: float | None,
) -> Float[Tensor, "batch heads 1 head_dim"]:
    attended = scaled_dot_product_attention(folded(query, key), key, value, mask, dropout, scale=scale)
    return attended.reshape(query.shape)


AttentionInterface.register(CAUSAL_SDPA, _attention)
AttentionMaskInterface.register(CAUSAL_SDPA, _mask)
