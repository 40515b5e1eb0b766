"""Qwen2.5-VL as transformers has it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch

from x2l.backbones._qwen_vl import QwenVL, floored
from x2l.costs.flops import TowerSizes, mlp
from x2l.costs.sizes import QWEN2_7B, BackboneSizes, PixelBudget
from x2l.engine.reading import Block
from x2l.types import Clip

ROUNDING_S = 1e-3


class Qwen25VL(QwenVL):
    """Qwen2.5-VL: one block of visual tokens, with positions in time, height and width.

    Source: Qwen2.5-VL (arXiv 2502.13923), section 2.1, as in transformers.
    """

    sizes = BackboneSizes(
        "Qwen2.5-VL-7B",
        QWEN2_7B,
        TowerSizes(1280, 3420, 32, 0, 3, 64, 4, 2, behind=mlp(5120, 5120, 3584) // 4),
        0,
        2,
        budget=PixelBudget(28, 4 * 28**2, 16384 * 28**2),
    )

    model_types = frozenset({"qwen2_5_vl"})

    def pieces(self, clip: Clip) -> Iterator[Block]:
        """The video is one block: every chunk starts where the video does, later in time."""
        seen, grid = self.look(clip)
        per_second = self.model.config.vision_config.tokens_per_second
        # A frame that was sampled at 2.9995 s is the one at 3 s.
        seconds = torch.from_numpy(clip.times_s[:: self.frames_per_step]) + ROUNDING_S
        yield Block(seen.pooler_output[0], grid, (seconds * per_second).long(), self._video_start)

    def capped(self, least: int, most: int, num_frames: int, factor: int) -> int:
        """Caps a frame at its share of nine tenths of the model's context."""
        in_context = int(self.settings.get("max_video_tokens", 128_000) * factor**2 * 0.9)
        return floored(min(most, in_context * self.frames_per_step // num_frames), least)

    @cached_property
    def _video_start(self) -> int:
        return len(self.prompt_ids())
