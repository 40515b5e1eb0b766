"""SmolVLM2 as transformers has it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

from x2l.config.settings import value_at
from x2l.costs.flops import DecoderSizes, TowerSizes, mlp
from x2l.costs.sizes import BackboneSizes
from x2l.engine.reading import Block
from x2l.engine.stock import StockBackbone
from x2l.preprocessing.frames import Frames, normalised, resized
from x2l.types import Clip, VideoFacts, X2LError

SPLIT, GLOBAL = "<fake_token_around_image>", "<global-img>"


class SmolVLM(StockBackbone):
    """SmolVLM2: a sentence about the video first, and a time stamp in front of every frame.

    Source: SmolVLM (arXiv 2504.05299), as in transformers.
    """

    sizes = BackboneSizes(
        "SmolVLM2-2.2B",
        DecoderSizes(2048, 8192, 24, 32, 32, 64, 49280),
        TowerSizes(1152, 4304, 27, 729, behind=mlp(1152, 2048)),
        81,
        text_per_step=13,
    )

    model_types = frozenset({"smolvlm"})
    network_parts: ClassVar[dict[str, str]] = {"projector": r"connector\.", "tower": r"vision_model\."}
    needed_settings = (
        "max_image_size.longest_edge",
        "image_mean",
        "image_std",
        "size.longest_edge|size.width|video_sampling.video_size.longest_edge|video_sampling.video_size.width",
    )

    def intro(self, video: VideoFacts | None) -> str:
        """Number and length of frames; the first time stamp, as text is tokenised up to a frame."""
        video = video or VideoFacts(1, 0.0)
        duration = timedelta(seconds=int(video.duration_s))
        return (
            f"You are provided the following series of {_in_words(video.num_frames)} frames "
            f"from a {duration} [H:MM:SS] video.\n{_stamp(0.0)}"
        )

    def outro(self) -> str:
        return "\n\n"

    def tokens_per_step(self, height: int, width: int, num_frames: int) -> int:
        tower = self.model.config.vision_config
        return (tower.image_size // tower.patch_size // self.model.config.scale_factor) ** 2

    def pieces(self, clip: Clip) -> Iterator[str | Block]:
        pixels = normalised(self._squares(clip).to(self.device), self.settings)
        seen = self.model.model.get_image_features(pixels[None].to(self.model.dtype))
        frames = seen.pooler_output[0].unflatten(0, (len(clip.frames), -1))
        for number, (second, tokens) in enumerate(zip(clip.times_s, frames, strict=True), clip.first_frame):
            yield f"{_stamp(second) if number else ''}{SPLIT}{GLOBAL}"
            yield Block(tokens)
            yield SPLIT

    def _squares(self, clip: Clip) -> Frames:
        """Resized twice, as the stock processor does: to its longest edge, then to the tower's square."""
        settings, side = self.settings, self.settings["max_image_size"]["longest_edge"]
        # The stock processor prefers the size of pictures where a checkpoint gives both.
        sizes = (settings.get("size"), value_at(settings, "video_sampling.video_size"))
        size = next(size for size in sizes if size and {"longest_edge", "width"} & size.keys())
        if longest := size.get("longest_edge"):
            height, width = _within(*clip.frames.shape[1:3], longest)
        else:
            height, width = size["height"], size["width"]
        once = resized(clip.frames, height, width, settings)
        return resized(once.permute(0, 2, 3, 1).numpy(), side, side, settings)


def _stamp(second: float) -> str:
    return f"\nFrame from {int(second // 60):02d}:{int(second % 60):02d}:"


def _within(height: int, width: int, longest: int) -> tuple[int, int]:
    """The longer side becomes `longest`, the other one an even number in proportion."""
    if width >= height:
        short = int(longest * height / width)
        return max(1, short + short % 2), longest
    short = int(longest * width / height)
    return longest, max(1, short + short % 2)


def _in_words(number: int) -> str:
    try:
        from num2words import num2words
    except ImportError as error:
        raise X2LError("backbone smolvlm: needs the package num2words (pip install num2words)") from error
    return num2words(number)
