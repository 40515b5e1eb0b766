"""Frames as the processors of transformers' video models see them, without torchvision.

Differs: those processors may compute on a GPU; this is their CPU path, on uint8, on every device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from x2l.errors import X2LError

Frames = UInt8[Tensor, "frames 3 height width"]

_FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""By Pillow's number, which is what a processor's settings give."""


def resized(
    frames: UInt8[np.ndarray, "frames h w 3"], height: int, width: int, settings: Mapping[str, Any]
) -> Frames:
    """On uint8 with antialias, by the filter of the checkpoint's processor (bicubic by default)."""
    pixels = rearrange(torch.from_numpy(frames), "f h w c -> f c h w")
    if pixels.shape[-2:] == (height, width):
        return pixels
    resample = settings.get("resample", 3)
    if resample not in _FILTERS:
        raise X2LError(
            f"resample: expected one of {sorted(_FILTERS)} in the processor's settings, got {resample}"
        )
    return interpolate(pixels.contiguous(), (height, width), mode=_FILTERS[resample], antialias=True)


def normalised(frames: Frames, settings: Mapping[str, Any]) -> Float[Tensor, "frames 3 height width"]:
    """Minus the mean, over the deviation, where the frames are; `settings` are those of the processor."""
    mean, std = (
        torch.tensor(settings[f"image_{name}"], device=frames.device)[:, None, None]
        for name in ("mean", "std")
    )
    scale = 1 / settings.get("rescale_factor", 1 / 255)
    return (frames.float() - mean * scale) / (std * scale)


def squares(
    frames: UInt8[np.ndarray, "frames h w 3"], settings: Mapping[str, Any], device: torch.device
) -> Float[Tensor, "frames 3 height width"]:
    """Frames stretched to the size that the settings give, and normalised on the device."""
    size = settings["size"]
    return normalised(resized(frames, size["height"], size["width"], settings).to(device), settings)


def multiples(
    height: int, width: int, factor: int, min_pixels: int, max_pixels: int, num_frames: int = 1, step: int = 1
) -> tuple[int, int]:
    """(height, width) near the given ones: multiples of `factor`, within a budget of pixels, alike in shape.

    With `num_frames`, the budget is that of all frames together, rounded to whole steps of `step` frames.
    Source: Qwen2.5-VL and Qwen3-VL, `smart_resize` of their processors.
    Differs: they refuse sides in a ratio of more than 200, and a video shorter than a step, which is as large
    as one of a step here.
    """
    num_frames = max(num_frames, step)
    high, wide = (max(factor, round(side / factor) * factor) for side in (height, width))
    in_steps = round(num_frames / step) * step
    if in_steps * high * wide > max_pixels:
        shrink = math.sqrt(num_frames * height * width / max_pixels)
        high, wide = (max(factor, int(side / shrink / factor) * factor) for side in (height, width))
    elif in_steps * high * wide < min_pixels:
        grow = math.sqrt(min_pixels / (num_frames * height * width))
        high, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return high, wide


def patches(
    pixels: Float[Tensor, "frames 3 height width"], patch: int, merge: int, steps: int
) -> tuple[Float[Tensor, "patches values"], tuple[int, int, int]]:
    """Flat patches of `steps` frames each, those that are merged side by side, and their grid (t, h, w).

    The last frame is repeated until the frames fill whole steps.
    Source: Qwen2.5-VL (arXiv 2502.13923), section 2.1, and its processor.
    """
    missing = -len(pixels) % steps
    pixels = torch.cat((pixels, pixels[-1:].expand(missing, -1, -1, -1)))
    grid = (len(pixels) // steps, pixels.shape[2] // patch, pixels.shape[3] // patch)
    flat = rearrange(
        pixels,
        "(t s) c (h mh p) (w mw q) -> (t h w mh mw) (c s p q)",
        s=steps,
        mh=merge,
        mw=merge,
        p=patch,
        q=patch,
    )
    return flat, grid
