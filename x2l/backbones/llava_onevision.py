"""LLaVA-OneVision as transformers has it."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import ClassVar

import torch
from transformers import DynamicCache

from x2l.cache import next_position
from x2l.costs.flops import TowerSizes, mlp
from x2l.costs.sizes import QWEN2_7B, BackboneSizes
from x2l.engine.reading import Block
from x2l.engine.stock import StockBackbone
from x2l.preprocessing.frames import squares
from x2l.types import Clip


class LlavaOnevision(StockBackbone):
    """LLaVA-OneVision: one block of pooled visual tokens, and a learned new line behind the video.

    Source: LLaVA-OneVision (arXiv 2408.03326), section 3, as in transformers.
    """

    sizes = BackboneSizes(
        "LLaVA-OneVision-7B", QWEN2_7B, TowerSizes(1152, 4304, 26, 729, behind=mlp(1152, 3584, 3584)), 196
    )

    model_types = frozenset({"llava_onevision"})
    network_parts: ClassVar[dict[str, str]] = {
        "projector": r"multi_modal_projector\.",
        "tower": r"vision_tower\.",
    }
    needed_settings = ("size.height", "size.width", "image_mean", "image_std")

    def tokens_per_step(self, height: int, width: int, num_frames: int) -> int:
        tower = self.model.config.vision_config
        return ceil(tower.image_size // tower.patch_size / 2) ** 2

    def pieces(self, clip: Clip) -> Iterator[Block]:
        pixels = squares(clip.frames, self.settings, self.device)
        video = pixels[None].to(self.model.dtype)
        config = self.model.config
        seen = self.model.model.get_video_features(
            video,
            vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
        )
        yield Block(seen.pooler_output[0, :-1])  # the last one is the new line

    def finish(self, cache: DynamicCache) -> DynamicCache:
        newline = self.model.model.image_newline[None, None].to(self.model.dtype)
        where = torch.tensor([[next_position(cache)]], device=self.device)
        self.decoder(inputs_embeds=newline, past_key_values=cache, position_ids=where, use_cache=True)
        return cache
