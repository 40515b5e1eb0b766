"""Parts that Qwen's video models share: frames of any shape, two in one step, positions in space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.engine.loading import load_stock
from x2l.engine.stock import StockBackbone
from x2l.preprocessing.frames import multiples, normalised, patches, resized
from x2l.types import Clip, X2LError


class QwenVL(StockBackbone):
    """A model whose frames keep their shape, and whose tokens have positions in time, height and width."""

    placeholder = "<|video_pad|>"
    num_axes = 3
    network_parts: ClassVar[dict[str, str]] = {
        "projector": r"visual\.(deepstack_)?merger",
        "tower": r"visual\.",
    }
    frames_per_step = 2
    needed_settings = (
        "patch_size",
        "merge_size",
        "image_mean",
        "image_std",
        "min_pixels|size.shortest_edge",
        "max_pixels|size.longest_edge",
    )
    budget_is_of_the_video: ClassVar[bool] = False
    """Whether the processor's limits on pixels are those of all frames together."""

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        attention: str = "sdpa",
        max_pixels: int | None = None,
    ) -> QwenVL:
        """Load a checkpoint folder or a model of the hub, from safetensors only.

        dtype: fp32, bf16 or fp16, or torch's names for them.

        attention: an implementation known to transformers (sdpa, eager, flash_attention_2, ...).

        max_pixels: of a frame; None: what the checkpoint's processor allows, maybe thousands of tokens.

        Raises X2LError naming the model and what is wrong with it.
        """
        if max_pixels is not None and max_pixels < 1:
            raise X2LError(f"backbone.max_pixels: expected at least 1, got {max_pixels}")
        network, tokenizer, settings, identity = load_stock(model, cls, device, dtype, attention)
        if max_pixels is not None:
            settings = {**settings, "max_pixels_per_frame": max_pixels}
            identity = f"{identity}, max_pixels {max_pixels}"
        return cls(network, tokenizer, settings, identity)

    def patches(self, clip: Clip) -> tuple[Float[Tensor, "patches values"], tuple[int, int, int]]:
        """The clip as the tower reads it, and its grid of patches (t, h, w)."""
        settings = self.settings
        patch, merge = settings["patch_size"], settings["merge_size"]
        num_frames = clip.video.num_frames if clip.video else len(clip.frames)
        height, width = self._size(*clip.frames.shape[1:3], num_frames)
        pixels = normalised(resized(clip.frames, height, width, settings).to(self.device), settings)
        flat, grid = patches(pixels, patch, merge, self.frames_per_step)
        return flat.to(self.model.dtype), grid

    @abstractmethod
    def capped(self, least: int, most: int, num_frames: int, factor: int) -> int:
        """The most pixels that a checkpoint with `cap_pixels_per_frame` allows, where it would allow `most`.

        A video of many frames gets smaller ones. Source: qwen-vl-utils, as in transformers.
        """

    @property
    def _factor(self) -> int:
        """Pixels on a side of what one visual token stands for."""
        return self.settings["patch_size"] * self.settings["merge_size"]

    def tokens_per_step(self, height: int, width: int, num_frames: int) -> int:
        return prod(self._size(height, width, num_frames)) // self._factor**2

    def _size(self, height: int, width: int, num_frames: int) -> tuple[int, int]:
        """Height and width in pixels that frames of a video are given."""
        step = self.frames_per_step if self.budget_is_of_the_video else 1
        num_frames = max(num_frames, step)
        counted = num_frames if self.budget_is_of_the_video else 1
        least, most = _limits(self.settings)
        if self.settings.get("cap_pixels_per_frame"):
            most = self.capped(least, most, num_frames, self._factor)
        if own_limit := self.settings.get("max_pixels_per_frame"):
            most = min(most, own_limit * counted)
        return multiples(height, width, self._factor, min(least, most), most, counted, step)

    def merged(self, grid: tuple[int, int, int]) -> tuple[int, int, int]:
        """The grid of visual tokens: patches are merged side by side."""
        merge = self.settings["merge_size"]
        return grid[0], grid[1] // merge, grid[2] // merge

    def look(self, clip: Clip) -> tuple[Any, tuple[int, int, int]]:
        """The tower's features of a clip, and its grid of visual tokens."""
        flat, grid = self.patches(clip)
        seen = self.model.model.get_video_features(flat, torch.tensor([grid], device=self.device))
        return seen, self.merged(grid)


def _limits(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Fewest and most pixels: older checkpoints name them min_pixels and max_pixels."""
    size = settings.get("size") or {}
    return (
        settings.get("min_pixels") or size["shortest_edge"],
        settings.get("max_pixels") or size["longest_edge"],
    )


def floored(pixels: int, least: int) -> int:
    """No cap goes below the fewest pixels of a frame, and a little more."""
    return max(pixels, int(least * 1.05))
