"""The whole Video-XL-2 network under its checkpoint names: Qwen2, SigLIP, auto-encoder and projector."""

from __future__ import annotations

from typing import no_type_check

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from x2l.networks.auto_encoder import SpatioTemporalEncoder
from x2l.networks.sparse_prefill import SparseDecoder
from x2l.networks.vision_tower import pool, projector

SIGLIP_SO400M_384 = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,  # of 27: the last one is left out
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}


@no_type_check
class VideoXL2Config(Qwen2Config):
    """Qwen2's configuration plus the visual fields; smaller models state their `vision_config`."""

    model_type = "video_xl_2"
    vision_config: dict | None = None
    sae_grid_size: int = 24
    """Rows and columns of patch features that the auto-encoder reads."""

    @property
    def vision(self) -> SiglipVisionConfig:
        return SiglipVisionConfig(**(self.vision_config or SIGLIP_SO400M_384), vision_use_head=False)


class SiglipTower(nn.Module):
    """SigLIP's vision transformer without final norm and head."""

    def __init__(self, config: SiglipVisionConfig):
        super().__init__()
        self.vision_tower = nn.Module()
        self.vision_tower.vision_model = SiglipVisionModel(config)
        del self.vision_tower.vision_model.post_layernorm

    def forward(self, pixels: Float[Tensor, "frames 3 size size"]) -> Float[Tensor, "frames patches dim"]:
        siglip = self.vision_tower.vision_model
        hidden = siglip.embeddings(pixels)
        for layer in siglip.encoder.layers:
            hidden = layer(hidden, None)
        return hidden


class VideoXL2ForCausalLM(Qwen2ForCausalLM):
    """The language model with `model.vision_tower`, `model.sae` and `model.mm_projector`."""

    config_class = VideoXL2Config

    def __init__(self, config: VideoXL2Config):
        super().__init__(config)
        self.model = SparseDecoder(config)
        vision = config.vision
        self.model.vision_tower = SiglipTower(vision)
        self.model.sae = SpatioTemporalEncoder(vision.hidden_size)
        self.model.mm_projector = projector(vision.hidden_size, config.hidden_size)
        # In the checkpoint, but not used.
        self.model.text_mlp = nn.Sequential(nn.Linear(config.hidden_size, config.hidden_size), nn.GELU())
        self.post_init()

    def visual_tokens(
        self, features: Float[Tensor, "frames patches dim"]
    ) -> Float[Tensor, "groups tokens hidden"]:
        """Visual tokens from the tower's features, one set for every four frames."""
        side, size = int(features.shape[1] ** 0.5), self.config.sae_grid_size
        grid = rearrange(features, "f (h w) d -> f d h w", h=side)
        grid = interpolate(grid.float(), (size, size), mode="bilinear", align_corners=False)
        merged = self.model.sae(grid.to(features.dtype))
        return pool(self.model.mm_projector(rearrange(merged, "g d h w -> g (h w) d")), 2, "average")
