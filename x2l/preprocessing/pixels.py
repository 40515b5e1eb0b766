"""From RGB frames to the pixels that an image tower reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

CPU = torch.device("cpu")
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing that a tower was trained with: resized by Pillow as uint8, then normalised per channel.

    size: side in pixels of the square that the tower reads.
    short_side: of the resized picture, whose centre square is read; None: it is stretched to the square.
    resample: Pillow's number of the filter.
    """

    size: int
    short_side: int | None
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    resample: int = Image.Resampling.BICUBIC

    def __call__(
        self, frames: UInt8[np.ndarray, "frames height width 3"], device: torch.device = CPU
    ) -> Float[Tensor, "frames 3 size size"]:
        """On the device, where they arrive as uint8."""
        squares = np.stack([self._square(Image.fromarray(frame)) for frame in frames])
        pixels = rearrange(torch.from_numpy(squares).to(device), "f h w c -> f c h w").float() / 255
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std

    def _square(self, picture: Image.Image) -> UInt8[np.ndarray, "size size 3"]:
        if self.short_side is None:
            return np.asarray(picture.resize((self.size, self.size), self.resample))
        short = min(picture.size)
        width, height = (self.short_side * length // short for length in picture.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        resized = picture.resize((width, height), self.resample)
        return np.asarray(resized.crop((left, top, left + self.size, top + self.size)))


def preprocess(
    frames: UInt8[np.ndarray, "frames height width 3"], size: int, device: torch.device = CPU
) -> Float[Tensor, "frames 3 size size"]:
    """CLIP's own recipe: shortest side to `size` (Pillow bicubic on uint8), centre crop, normalise."""
    return Preprocessing(size, short_side=size)(frames, device)
