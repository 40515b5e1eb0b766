"""The start of VSTs that a trained model is given: they gather what they attend to.

Logged 2026-11-22: VSTs that were given to a trained model as copies of its projections, as Video-XL's
are, read details at chance after 500 steps on 3 to 6 chunks; on 3 after 200, also with the whole model
trained. Gathering, .64 on 3 chunks after 30 steps, .82 after 60; without the gain of the first layer, none.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from x2l.interfaces import Backbone
from x2l.networks.qwen2_vst import VSTForCausalLM
from x2l.types import Clip, X2LError

NEEDED = "VSTs, beacon_param with o, and as many key-value heads as query heads"
"""What a VST needs to pass on what it attends to as it is."""


@torch.no_grad()
def let_vsts_gather(backbone: Backbone, clips: Iterable[Clip]) -> None:
    """Give a trained model VSTs that start by gathering, with the size of the first clip's visual tokens.

    Nothing but VSTs is changed. Where the first layer's values are no rotation of its input, a VST is a
    mixture of what it attends to, and not a copy. Source: none; Video-XL starts them as copies of the
    ordinary projections.
    Raises X2LError for a model without VSTs, whose VSTs own no output projection, or whose heads do not add
    up to its width.
    """
    if not can_gather(backbone.model):
        raise X2LError(f"vst_start: expected kept with this backbone, gather needs {NEEDED}")
    clip = next(iter(clips))
    tokens = backbone.embed(clip.frames, clip.times_s)
    gather(backbone.model, tokens.float().square().mean().sqrt().item())


def can_gather(network: nn.Module) -> bool:
    if not isinstance(network, VSTForCausalLM) or "o" not in network.config.beacon_param:
        return False
    first = network.model.layers[0].self_attn
    return first.v_proj.weight.shape == first.o_proj.weight.shape


@torch.no_grad()
def gather(network: VSTForCausalLM, gain: float, embedding_std: float = 0.3) -> None:
    """Start VSTs as `gain` times the mean value that they attend to in the first layer.

    The attention of later layers adds nothing to them at first.
    """
    embedding = network.model.beacon_embed_tokens.weight
    embedding.copy_(torch.empty(embedding.shape).normal_(0, embedding_std))  # the same on every device
    for layer in network.model.layers:
        layer.self_attn.beacon_o_proj.weight.zero_()
    first = network.model.layers[0].self_attn
    first.beacon_o_proj.weight.copy_(gain * torch.eye(network.config.hidden_size))
