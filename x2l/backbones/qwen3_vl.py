"""Qwen3-VL as transformers has it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from x2l.backbones._qwen_vl import QwenVL, floored
from x2l.costs.flops import DecoderSizes, TowerSizes, mlp
from x2l.costs.sizes import BackboneSizes, PixelBudget
from x2l.engine.reading import Block
from x2l.types import Clip


class Qwen3VL(QwenVL):
    """Qwen3-VL: a time stamp in front of every pair of frames, and features for the first layers (DeepStack).

    Source: Qwen3-VL (arXiv 2511.21631), as in transformers; DeepStack: arXiv 2406.04334.
    """

    sizes = BackboneSizes(
        "Qwen3-VL-8B",
        DecoderSizes(4096, 12288, 36, 32, 8, 128, 151936),
        # Four mergers: what comes out, and three levels for DeepStack.
        TowerSizes(1152, 4304, 27, 0, frames_per_step=2, behind=mlp(4608, 4608, 4096)),
        0,
        2,
        text_per_step=9,
        budget=PixelBudget(32, 4 * 32**2, 24 * 1024**2, of_the_video=True),
    )

    model_types = frozenset({"qwen3_vl"})
    budget_is_of_the_video = True

    def pieces(self, clip: Clip) -> Iterator[str | Block]:
        seen, (steps, *sides) = self.look(clip)
        parts = seen.pooler_output[0].chunk(steps)
        deepstack = torch.stack([level[0] for level in seen.deepstack_features]).chunk(steps, dim=1)
        for step, (tokens, levels) in enumerate(zip(parts, deepstack, strict=True)):
            times_s = clip.times_s[step * self.frames_per_step :][: self.frames_per_step]
            yield f"<{(times_s[0] + times_s[-1]) / 2:.1f} seconds><|vision_start|>"
            yield Block(tokens, (1, *sides), deepstack=levels)
            yield "<|vision_end|>"

    def capped(self, least: int, most: int, num_frames: int, factor: int) -> int:
        """Caps the video: no frame has more than its share, nor more than `max_video_tokens`."""
        of_frame = min(self.settings.get("max_video_tokens", 768) * factor**2, most // num_frames)
        return num_frames * floored(of_frame, least)
