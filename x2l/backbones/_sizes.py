"""Sizes of the published models, for `x2l plan`: facts of their config.json, which need no weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from x2l.costs import DecoderSizes, TowerSizes, auto_encoder, mlp
from x2l.preprocessing.frames import multiples

QWEN2_7B = DecoderSizes(3584, 18944, 28, 28, 4, 128, 152064)
CLIP_L_336 = TowerSizes(1024, 4096, 23, 577, behind=mlp(1024, 3584, 3584))
QWEN2_5_TOWER = TowerSizes(1280, 3420, 32, 0, 3, 64, 4, 2, behind=mlp(5120, 5120, 3584) // 4)
VIDEO_XL_2_TOWER = TowerSizes(
    1152,
    4304,
    26,
    729,
    # The auto-encoder and the projector read 576 features for each of four frames.
    behind=(auto_encoder(1152, 576) + 576 * mlp(1152, 3584, 3584)) // (4 * 729),
)


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

    @property
    def repeated_heads(self) -> int:
        """Heads for which the keys and values of a layer are copied.

        transformers does so where there is a mask; x2l's own pre-fills, which stop early, share them.
        """
        decoder = self.decoder
        return 0 if self.stops_early or decoder.heads == decoder.kv_heads else decoder.heads

    def at(self, height: int, width: int, num_frames: int) -> BackboneSizes:
        """The sizes for frames of a size; patches are merged by four."""
        if self.budget is None:
            return self
        tokens = self.budget.tokens(height, width, num_frames)
        return replace(self, tokens_per_step=tokens, tower=replace(self.tower, patches=4 * tokens))


SIZES = {
    "x2l_tiny": BackboneSizes(
        "x2l-tiny",
        DecoderSizes(192, 576, 5, 3, 3, 64, 112),
        TowerSizes(128, 384, 4, 65, behind=mlp(128, 192, 192)),
        16,
        vst=True,
        stops_early=True,
    ),
    "video_xl": BackboneSizes("Video-XL-7B", QWEN2_7B, CLIP_L_336, 144, vst=True, stops_early=True),
    "video_xl_2": BackboneSizes(
        "Video-XL-2-7B",
        QWEN2_7B,
        VIDEO_XL_2_TOWER,
        144,
        4,
        text_per_step=8,
        stops_early=True,
        block_steps=4,
        previous_blocks=3,
        chunk_frames=16,
    ),
    "qwen2_5_vl": BackboneSizes(
        "Qwen2.5-VL-7B",
        QWEN2_7B,
        QWEN2_5_TOWER,
        0,
        2,
        budget=PixelBudget(28, 4 * 28**2, 16384 * 28**2),
    ),
    "qwen3_vl": BackboneSizes(
        "Qwen3-VL-8B",
        DecoderSizes(4096, 12288, 36, 32, 8, 128, 151936),
        # Four mergers: what comes out, and three levels for DeepStack.
        TowerSizes(1152, 4304, 27, 0, frames_per_step=2, behind=mlp(4608, 4608, 4096)),
        0,
        2,
        text_per_step=9,
        budget=PixelBudget(32, 4 * 32**2, 24 * 1024**2, of_the_video=True),
    ),
    "llava_onevision": BackboneSizes(
        "LLaVA-OneVision-7B", QWEN2_7B, TowerSizes(1152, 4304, 26, 729, behind=mlp(1152, 3584, 3584)), 196
    ),
    "internvl": BackboneSizes(
        "InternVL3-8B",
        DecoderSizes(3584, 18944, 28, 28, 4, 128, 151674),
        TowerSizes(1024, 4096, 24, 1025, behind=mlp(4096, 3584, 3584) // 4),
        256,
        text_per_step=7,
    ),
    "smolvlm": BackboneSizes(
        "SmolVLM2-2.2B",
        DecoderSizes(2048, 8192, 24, 32, 32, 64, 49280),
        TowerSizes(1152, 4304, 27, 729, behind=mlp(1152, 2048)),
        81,
        text_per_step=13,
    ),
}
"""By the backbone's name. Budgets are those of the processors' settings: a checkpoint may have others."""
