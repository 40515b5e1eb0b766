"""Attention to a cache whose tokens have a bias, by those implementations that can add one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.integrations.flex_attention import compile_friendly_flex_attention
from transformers.masking_utils import flex_attention_mask

from x2l.engine.causal import CAUSAL_SDPA, attending, biased_mask
from x2l.engine.replay import FixedCache

CAN_WEIGH = ("sdpa", "eager", "flex_attention")
"""Fused implementations take no bias."""
_FLEX = "x2l_weighed_flex"
_STEP = 1024


@contextmanager
def weighed(decoder: PreTrainedModel, cache: DynamicCache) -> Iterator[None]:
    """While it is open, the decoder reads this cache with its bias."""
    bias = getattr(cache, "bias", None)
    if bias is None:
        yield
        return
    implementation = decoder.config._attn_implementation

    def add_bias(_, args: tuple, given: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if isinstance(given.get("past_key_values"), FixedCache):  # the bias is in its mask
            return args, given
        read = given["input_ids"] if given.get("inputs_embeds") is None else given["inputs_embeds"]
        row = _row(bias, cache.get_seq_length() + read.shape[1], decoder)
        if implementation == CAUSAL_SDPA:
            return args, given | {"cache_bias": row}
        if implementation == "flex_attention":
            # Of a length that seldom changes: flex attention is compiled for it.
            return args, given | {"cache_bias": nn.functional.pad(row, (0, -len(row) % _STEP))}
        return args, given | {"attention_mask": biased_mask(row, read.shape[1])}

    hook = decoder.register_forward_pre_hook(add_bias, with_kwargs=True)
    try:
        with attending(decoder, _FLEX if implementation == "flex_attention" else implementation):
            yield
    finally:
        hook.remove()


def _row(bias: Float[Tensor, " biased"], num_seen: int, decoder: PreTrainedModel) -> Float[Tensor, " seen"]:
    """The bias of everything that is seen, 0 behind what has one."""
    row = torch.zeros(num_seen, dtype=decoder.dtype, device=decoder.device)
    row[: len(bias)] = bias.to(row)
    return row


def _flex_attention(
    module: nn.Module,
    query: Float[Tensor, "batch heads read head_dim"],
    key: Float[Tensor, "batch kv_heads seen head_dim"],
    value: Float[Tensor, "batch kv_heads seen head_dim"],
    attention_mask: Any,
    scaling: float | None = None,
    cache_bias: Float[Tensor, " at_least_seen"] | None = None,
    **kwargs,
) -> tuple[Float[Tensor, "batch read heads head_dim"], None]:
    """Flex attention with a bias for each key.

    transformers' own indexes a dense mask instead: on a CPU (torch 2.13) that corrupts memory.
    """
    attended = compile_friendly_flex_attention(
        query,
        key,
        value,
        score_mod=lambda score, batch, head, read, seen: score + cache_bias[seen],
        block_mask=attention_mask,
        enable_gqa=True,
        scale=scaling,
        training=module.training,
    )
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(_FLEX, _flex_attention)
AttentionMaskInterface.register(_FLEX, flex_attention_mask)
