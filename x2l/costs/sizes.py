"""Sizes of published models, for `x2l estimate`: facts of their config.json, which need no weights.

A backbone declares those of the model that it is named after (`Backbone.sizes`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from x2l.costs.flops import DecoderSizes, TowerSizes
from x2l.preprocessing.frames import multiples

QWEN2_7B = DecoderSizes(3584, 18944, 28, 28, 4, 128, 152064)


@dataclass(frozen=True)
class PixelBudget:
    """A processor's rule for the size of frames: sides are multiples of `factor`, a visual token its square.

    of_the_video: the limits are those of all frames together.
    """

    factor: int
    min_pixels: int
    max_pixels: int
    of_the_video: bool = False

    def tokens(self, height: int, width: int, num_frames: int) -> int:
        """Visual tokens of a frame (of a pair, where two share theirs)."""
        frames, step = (num_frames, 2) if self.of_the_video else (1, 1)
        sides = multiples(height, width, self.factor, self.min_pixels, self.max_pixels, frames, step)
        return sides[0] * sides[1] // self.factor**2


@dataclass(frozen=True)
class BackboneSizes:
    """One published model.

    tokens_per_step: visual tokens of `frames_per_step` frames; text_per_step: of the text in front of them.
    prompt: tokens in front of the video. stops_early: the pre-fill ends at the last layer's keys and values.
    block_steps, previous_blocks: steps in a block of a sparse pre-fill, and how many blocks before its own a
    visual token sees besides all text; None: everything.
    budget: where tokens depend on the size of the frames; None: they do not. chunk_frames: by default.
    """

    model: str
    decoder: DecoderSizes
    tower: TowerSizes
    tokens_per_step: int
    frames_per_step: int = 1
    text_per_step: int = 0
    prompt: int = 14
    vst: bool = False
    stops_early: bool = False
    block_steps: int | None = None
    previous_blocks: int = 0
    budget: PixelBudget | None = None
    chunk_frames: int = 10

    def at(self, height: int, width: int, num_frames: int) -> BackboneSizes:
        """The sizes for frames of a size; patches are merged by four."""
        if self.budget is None:
            return self
        tokens = self.budget.tokens(height, width, num_frames)
        return replace(self, tokens_per_step=tokens, tower=replace(self.tower, patches=4 * tokens))
