"""Qwen2 with visual summary tokens (VSTs): transformers' own model plus a second set of projections.

Without VSTs every module runs the stock forward, so that generate(), LoRA and every attention
implementation keep working. Checkpoints call the VST a "beacon"; the word stays in weight names.

Source: Video-XL (arXiv 2409.14485), section 3.2; Video-X^2L (arXiv 2506.21184), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import Cache, Qwen2Config, Qwen2ForCausalLM, Qwen2Model
from transformers.masking_utils import create_causal_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2.modeling_qwen2 import (
    Qwen2Attention,
    Qwen2DecoderLayer,
    apply_rotary_pos_emb,
    eager_attention_forward,
)

from x2l.types import X2LError

Projected = Float[Tensor, "batch heads tokens head_dim"]


@no_type_check
class VSTConfig(Qwen2Config):
    """Qwen2's configuration plus which projections VSTs own (any of q, k, v, o)."""

    model_type = "llava_qwen"
    beacon_param: list[str] | None = None

    def __post_init__(self, **kwargs):
        self.beacon_param = ["q", "k", "v"] if self.beacon_param is None else list(self.beacon_param)
        if unknown := set(self.beacon_param) - set("qkvo"):
            raise X2LError(f"beacon_param: {sorted(unknown)} not supported, expected some of q, k, v, o")
        super().__post_init__(**kwargs)


@dataclass
class ChunkPass:
    """One chunk on its way through the layers: where its VSTs are, and the KVs kept so far.

    `after[i]` raw tokens stand in front of VST i; None means that there are no VSTs and every token is
    kept. Rows are interleaved in temporal order, so that the mask is plainly causal.
    """

    num_tokens: int
    after: Int[Tensor, " vsts"] | None = None
    keys: list[Projected] = field(default_factory=list)
    values: list[Projected] = field(default_factory=list)

    @cached_property
    def vst(self) -> Int[Tensor, " vsts"]:
        """Rows of the VSTs in the interleaved sequence."""
        return self.after + torch.arange(len(self.after), device=self.after.device)

    @cached_property
    def raw(self) -> Int[Tensor, " tokens"]:
        """Rows of the raw tokens in the interleaved sequence."""
        is_raw = torch.ones(self.num_tokens + len(self.after), dtype=torch.bool, device=self.after.device)
        is_raw[self.vst] = False
        return is_raw.nonzero()[:, 0]

    @cached_property
    def _interleaving(self) -> Int[Tensor, " rows"]:
        return torch.cat((self.raw, self.vst)).argsort()

    def interleave(
        self, raw: Float[Tensor, "batch tokens dim"], vst: Float[Tensor, "batch vsts dim"]
    ) -> Float[Tensor, "batch rows dim"]:
        return torch.cat((raw, vst), dim=1)[:, self._interleaving]

    def split(
        self, rows: Float[Tensor, "batch rows dim"]
    ) -> tuple[Float[Tensor, "batch tokens dim"], Float[Tensor, "batch vsts dim"]]:
        return rows[:, self.raw], rows[:, self.vst]

    def select_kept(self, rows: Float[Tensor, "batch rows dim"]) -> Float[Tensor, "batch kept dim"]:
        return rows if self.after is None else rows[:, self.vst]

    def keep(self, keys: Projected, values: Projected) -> None:
        self.keys.append(keys)
        self.values.append(values)


class VSTAttention(Qwen2Attention):
    """Qwen2 attention whose VST rows go through projections of their own."""

    def __init__(self, config: VSTConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        for letter in config.beacon_param:
            shared = self.get_submodule(f"{letter}_proj")
            own = nn.Linear(shared.in_features, shared.out_features, bias=shared.bias is not None)
            self.add_module(f"beacon_{letter}_proj", own)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch rows hidden"],
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | BlockMask | None,
        past_key_values: Cache | None = None,
        chunk: ChunkPass | None = None,
        **kwargs,
    ):
        if chunk is None:
            return super().forward(
                hidden_states, position_embeddings, attention_mask, past_key_values, **kwargs
            )
        query, key, value = self._project_qkv(hidden_states, chunk)
        chunk.keep(*(self._kept(states, chunk) for states in (key, value)))
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, weights = attend(
            self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs
        )
        return self._project_output(output.flatten(2), chunk), weights

    def kept_keys_values(
        self, hidden_states: Float[Tensor, "batch rows hidden"], chunk: ChunkPass
    ) -> tuple[Projected, Projected]:
        """Keys and values of the kept rows only: all that the last layer has to compute."""
        rows = chunk.select_kept(hidden_states)
        owner = "beacon_" if chunk.after is not None else ""
        return tuple(self._heads(self._linear(owner, letter)(rows)) for letter in "kv")

    def _linear(self, owner: str, letter: str) -> nn.Module:
        """The VSTs' projection where they own one ("beacon_"), else the shared one."""
        own = getattr(self, f"{owner}{letter}_proj", None)
        return self.get_submodule(f"{letter}_proj") if own is None else own

    def _heads(self, states: Float[Tensor, "batch rows dim"]) -> Projected:
        return states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _project_qkv(self, hidden_states: Tensor, chunk: ChunkPass) -> list[Projected]:
        if chunk.after is None:
            return [self._heads(self._linear("", letter)(hidden_states)) for letter in "qkv"]
        raw, vst = chunk.split(hidden_states)
        return [
            self._heads(chunk.interleave(self._linear("", letter)(raw), self._linear("beacon_", letter)(vst)))
            for letter in "qkv"
        ]

    def _kept(self, states: Projected, chunk: ChunkPass) -> Float[Tensor, "batch heads kept head_dim"]:
        return states if chunk.after is None else states[:, :, chunk.vst]

    def _project_output(self, states: Float[Tensor, "batch rows dim"], chunk: ChunkPass) -> Tensor:
        own = getattr(self, "beacon_o_proj", None)
        if chunk.after is None or own is None:
            return self.o_proj(states)
        raw, vst = chunk.split(states)
        return chunk.interleave(self.o_proj(raw), own(vst))


class VSTDecoderLayer(Qwen2DecoderLayer):
    def __init__(self, config: VSTConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.self_attn = VSTAttention(config, layer_idx)


class VSTModel(Qwen2Model):
    """Qwen2Model with a VST embedding and a pre-fill that returns KVs instead of hidden states."""

    config_class = VSTConfig

    def __init__(self, config: VSTConfig):
        super().__init__(config)
        self.layers = nn.ModuleList(
            VSTDecoderLayer(config, index) for index in range(config.num_hidden_layers)
        )
        self.beacon_embed_tokens = nn.Embedding(1, config.hidden_size)
        self.post_init()

    def prefill(
        self,
        embeds: Float[Tensor, "batch tokens hidden"],
        cache: Cache,
        after: Int[Tensor, " vsts"] | None = None,
    ) -> tuple[Float[Tensor, "batch layers heads kept dim"], Float[Tensor, "batch layers heads kept dim"]]:
        """Un-rotated keys and values of the VSTs placed by `after`, or of every token (None).

        `cache` holds the rotated memory and is used up. Work that nobody needs is not done: no
        lm_head, no final norm, and the last layer stops at the kept keys and values.
        """
        chunk = ChunkPass(embeds.shape[1], after)
        if after is not None:
            vst = self.beacon_embed_tokens.weight.expand(len(embeds), len(after), -1)
            embeds = chunk.interleave(embeds, vst.to(embeds.dtype))
        start = cache.get_seq_length()
        position_ids = torch.arange(start, start + embeds.shape[1], device=embeds.device)[None]
        rotary = self.rotary_emb(embeds, position_ids)
        mask = create_causal_mask(self.config, embeds, None, cache, position_ids)
        for layer in self.layers[:-1]:
            embeds = layer(
                embeds,
                attention_mask=mask,
                position_embeddings=rotary,
                past_key_values=cache,
                chunk=chunk,
            )
            # This layer's memory is used up: of copies, where there are any, one lives at a time.
            cache.layers[layer.self_attn.layer_idx].reset()
        last = self.layers[-1]
        chunk.keep(*last.self_attn.kept_keys_values(last.input_layernorm(embeds), chunk))
        return torch.stack(chunk.keys, dim=1), torch.stack(chunk.values, dim=1)


class VSTForCausalLM(Qwen2ForCausalLM):
    """Qwen2ForCausalLM over VSTModel; the lm_head is only used for text."""

    config_class = VSTConfig

    def __init__(self, config: VSTConfig):
        super().__init__(config)
        self.model = VSTModel(config)
        self.post_init()

    @torch.no_grad()
    def copy_projections_to_vsts(self) -> None:
        """Let VSTs start from the raw tokens' projections.

        Source: Video-XL initialises missing VST projections this way.
        """
        for layer in self.model.layers:
            for letter in self.config.beacon_param:
                shared = layer.self_attn.get_submodule(f"{letter}_proj")
                layer.self_attn.get_submodule(f"beacon_{letter}_proj").load_state_dict(shared.state_dict())
