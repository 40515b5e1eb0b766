"""Qwen2 with Video-XL-2's sparse pre-fill: visual tokens see blocks nearby, time stamps see everything.

Keys that nobody may see are not in the product at all: compute and memory shrink, and no mask over the
whole video exists.

Source: Video-XL-2 (arXiv 2506.19225), section 3.2; the rule is that of the released code.
Differs: the released code computes everything and masks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import Qwen2Config, Qwen2Model
from transformers.models.qwen2.modeling_qwen2 import (
    Qwen2Attention,
    Qwen2DecoderLayer,
    apply_rotary_pos_emb,
)

from x2l.split_attention import can_split, folded, split_attention

Queries = Float[Tensor, "batch heads tokens head_dim"]
Projected = Float[Tensor, "batch kv_heads tokens head_dim"]


@dataclass
class SparsePass:
    """Some tokens of one block on their way through the layers, and the un-rotated KVs kept so far.

    is_text: which of them see everything; the others see the memory's tokens in `near`, and each other.
    """

    memory_keys: Float[Tensor, "layers kv_heads cached head_dim"]
    memory_values: Float[Tensor, "layers kv_heads cached head_dim"]
    near: Bool[Tensor, " cached"]
    is_text: Bool[Tensor, " tokens"]
    keys: list[Projected] = field(default_factory=list)
    values: list[Projected] = field(default_factory=list)

    def attend(self, layer: int, query: Queries, key: Projected, value: Projected, scale: float) -> Queries:
        """Attention of every token to what it may see. Keys and queries are rotated."""
        output = torch.empty_like(query)
        for rows, seen in ((self.is_text, slice(None)), (~self.is_text, self.near)):
            if not rows.any():
                continue
            output[:, :, rows] = self._attend_some(layer, rows, seen, query, key, value, scale)
        return output

    def _attend_some(self, layer, rows, seen, query, key, value, scale) -> Tensor:
        query, where = query[:, :, rows], rows.nonzero()[:, 0]
        cached = tuple(states[layer][None, :, seen] for states in (self.memory_keys, self.memory_values))
        own_seen = where[:, None] >= torch.arange(key.shape[2], device=key.device)
        num_cached = cached[0].shape[2]
        if num_cached and can_split(query.device):
            return split_attention(query, cached, (key, value), scale, seen=own_seen)
        keys, values = (torch.cat(states, dim=2) for states in zip(cached, (key, value), strict=True))
        mask = torch.cat((own_seen.new_ones(len(where), num_cached), own_seen), dim=1)
        mask = mask.repeat(query.shape[1] // keys.shape[1], 1)
        attended = scaled_dot_product_attention(
            folded(query, keys), keys, values, attn_mask=mask, scale=scale
        )
        return attended.reshape(query.shape)


class SparseAttention(Qwen2Attention):
    """Qwen2 attention that can be given a SparsePass instead of a mask."""

    def forward(self, hidden_states, position_embeddings, *args, sparse: SparsePass | None = None, **kwargs):
        if sparse is None:
            return super().forward(hidden_states, position_embeddings, *args, **kwargs)
        query = self._heads(self.q_proj, hidden_states)
        key, value = self.keep(hidden_states, sparse)
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        output = sparse.attend(self.layer_idx, query, key, value, self.scaling)
        return self.o_proj(output.transpose(1, 2).flatten(2)), None

    def keep(self, hidden_states: Tensor, sparse: SparsePass) -> tuple[Projected, Projected]:
        """Keys and values, noted before rotation: all that the last layer has to compute."""
        key, value = (self._heads(project, hidden_states) for project in (self.k_proj, self.v_proj))
        sparse.keys.append(key)
        sparse.values.append(value)
        return key, value

    def _heads(self, project: nn.Module, hidden_states: Tensor) -> Queries:
        return project(hidden_states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class SparseLayer(Qwen2DecoderLayer):
    def __init__(self, config: Qwen2Config, layer_idx: int):
        super().__init__(config, layer_idx)
        self.self_attn = SparseAttention(config, layer_idx)


class SparseDecoder(Qwen2Model):
    """Qwen2Model with a pre-fill that returns KVs instead of hidden states."""

    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.layers = nn.ModuleList(SparseLayer(config, i) for i in range(config.num_hidden_layers))
        self.post_init()

    def prefill(
        self, embeds: Float[Tensor, "tokens hidden"], positions: Int[Tensor, " tokens"], sparse: SparsePass
    ) -> tuple[Float[Tensor, "layers kv_heads tokens dim"], Float[Tensor, "layers kv_heads tokens dim"]]:
        """Un-rotated keys and values of the tokens at `positions`."""
        hidden = embeds[None]
        rotary = self.rotary_emb(hidden, positions[None])
        for layer in self.layers[:-1]:
            hidden = layer(hidden, position_embeddings=rotary, sparse=sparse)
        last = self.layers[-1]
        last.self_attn.keep(last.input_layernorm(hidden), sparse)
        return torch.cat(sparse.keys), torch.cat(sparse.values)
