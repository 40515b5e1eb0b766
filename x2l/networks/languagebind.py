"""LanguageBind's video model under its checkpoint names: a CLIP whose image layers also look along time."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer


class TemporalLayer(CLIPEncoderLayer):
    """A CLIP layer behind attention of each patch to itself in the other frames of its clip."""

    def __init__(self, config: Any, num_frames: int):
        super().__init__(config)
        self.temporal_embedding = nn.Parameter(torch.zeros(1, num_frames, config.hidden_size))
        self.temporal_attn = CLIPAttention(config)
        self.temporal_layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: Float[Tensor, "frames patches width"],
        attention_mask: Tensor | None,
        **options: Any,
    ) -> Float[Tensor, "frames patches width"]:
        patches, num_frames = hidden_states.shape[1], self.temporal_embedding.shape[1]
        in_time = rearrange(hidden_states, "(b t) s d -> (b s) t d", t=num_frames)
        in_time = in_time + self.temporal_embedding
        in_time = in_time + self.temporal_attn(self.temporal_layer_norm1(in_time))[0]
        hidden_states = rearrange(in_time, "(b s) t d -> (b t) s d", s=patches)
        return super().forward(hidden_states, attention_mask, **options)


class LanguageBindVideo(CLIPModel):
    """CLIP with temporal attention in every image layer: one embedding for a clip of `num_frames` frames.

    Source: LanguageBind (arXiv 2310.01852), section 3.2 and its released code.
    """

    def __init__(self, config: CLIPConfig, num_frames: int):
        super().__init__(config)
        self.num_frames = num_frames
        layers = range(config.vision_config.num_hidden_layers)
        self.vision_model.encoder.layers = nn.ModuleList(
            TemporalLayer(self.vision_model.config, num_frames) for _ in layers
        )

    def clip_features(self, pixels: Float[Tensor, "clips frames 3 size size"]) -> Float[Tensor, "clips dim"]:
        """The projected mean over a clip's frames."""
        by_frame = self.vision_model(pixel_values=pixels.flatten(0, 1)).pooler_output
        return self.visual_projection(by_frame.unflatten(0, pixels.shape[:2]).mean(dim=1))
