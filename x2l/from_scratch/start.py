"""The start of a language model that is trained from nothing: VSTs copy the token in front of them.

Logged 2026-11-21: with random VST projections, detail questions at 2x stayed at .2 to .4 after 500 steps that
brought uncompressed ones to .9; with this start both rise together (.82 and .86 after 200 steps).
"""

from __future__ import annotations

import torch

from x2l.errors import X2LError
from x2l.networks.qwen2_vst import VSTAttention, VSTForCausalLM
from x2l.training.start import NEEDED, can_gather, gather

FAST_FREQUENCIES = 8
KEY_BIAS, QUERY_BIAS = 2.0, 4.8
"""Make a logit that falls from about 9 at distance 1 to about 0 far away, whatever the content."""


@torch.no_grad()
def start_language_model(
    network: VSTForCausalLM, visual_rms: float, embedding_std: float = 0.3, previous_word_head: bool = False
) -> None:
    """Initialise the language model; `visual_rms` is the size of the visual tokens it will read.

    In the first layer, values and outputs start as the identity and VSTs attend to the raw tokens right in
    front of them, so that a VST leaves it as a copy of its neighbour, as large as a visual token. Later
    layers add nothing to VSTs at first. With `previous_word_head`, the first head of the first layer starts
    by attending to the word before.

    Raises X2LError for a model whose VSTs own no output projection or whose heads do not add up to its width.
    """
    if not can_gather(network):
        raise X2LError(f"model: expected {NEEDED}")
    first = network.model.layers[0].self_attn
    network.model.embed_tokens.weight.normal_(0, embedding_std)
    identity = torch.eye(network.config.hidden_size)
    first.v_proj.weight.copy_(identity)
    first.o_proj.weight.copy_(identity / 2)
    network.copy_projections_to_vsts()
    gather(network, visual_rms, embedding_std)
    focus_on_neighbours(first, previous_word_head)


@torch.no_grad()
def focus_on_neighbours(attention: VSTAttention, previous_word_head: bool = False) -> None:
    """A bias shared by raw keys and VST queries on the fastest rotary frequencies: nearness, not content.

    previous_word_head: the first head of raw queries has it too.
    """
    head = torch.zeros(attention.head_dim)
    head[:FAST_FREQUENCIES] = 1
    attention.k_proj.bias += KEY_BIAS * head.repeat(attention.config.num_key_value_heads)
    attention.beacon_q_proj.bias += QUERY_BIAS * head.repeat(attention.config.num_attention_heads)
    if previous_word_head:
        attention.q_proj.bias[: attention.head_dim] += QUERY_BIAS * head
