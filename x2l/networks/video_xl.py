"""The whole Video-XL network under its checkpoint names: Qwen2 with VSTs, CLIP tower and projector."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from transformers import CLIPVisionConfig

from x2l.networks.qwen2_vst import VSTConfig, VSTForCausalLM
from x2l.networks.time_code import time_code
from x2l.networks.vision_tower import VisionTower, pool, projector

CLIP_L_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
}


class VideoXLConfig(VSTConfig):
    """VSTConfig plus the visual fields of a released config.json.

    `vision_config` is absent there (the tower is CLIP ViT-L/14-336); smaller models state it.
    """

    vision_config: dict | None = None
    mm_vision_select_layer: int = -2
    mm_spatial_pool_stride: int = 2
    mm_spatial_pool_mode: str = "average"
    mm_time_amplitude: float = 0.0
    """Size of the time code on visual tokens; 0: none, as in Video-XL."""

    @property
    def vision(self) -> CLIPVisionConfig:
        return CLIPVisionConfig(**(self.vision_config or CLIP_L_336))

    @property
    def tokens_per_frame(self) -> int:
        vision = self.vision
        return (vision.image_size // vision.patch_size // self.mm_spatial_pool_stride) ** 2


class VideoXLForCausalLM(VSTForCausalLM):
    """The language model with `model.vision_tower` and `model.mm_projector`."""

    config_class = VideoXLConfig

    def __init__(self, config: VideoXLConfig):
        super().__init__(config)
        vision = config.vision
        self.model.vision_tower = VisionTower(vision, config.mm_vision_select_layer)
        self.model.mm_projector = projector(vision.hidden_size, config.hidden_size)
        self.post_init()

    def visual_tokens(
        self, pixels: Float[Tensor, "frames 3 size size"], times_s: Float[Tensor, " frames"] | None = None
    ) -> Float[Tensor, "frames tokens hidden"]:
        """Projected, then pooled: `tokens_per_frame` tokens for each normalised frame.

        times_s: when each was seen, for a model that is told.
        """
        patches = self.model.mm_projector(self.model.vision_tower(pixels))
        tokens = pool(patches, self.config.mm_spatial_pool_stride, self.config.mm_spatial_pool_mode)
        if times_s is None or not self.config.mm_time_amplitude:
            return tokens
        code = time_code(times_s.to(tokens.device), tokens.shape[-1])
        return tokens + (self.config.mm_time_amplitude * code[:, None]).to(tokens.dtype)
