"""Rotary position embedding of stored keys.

Source: RoFormer (arXiv 2104.09864), halves layout of Llama and Qwen2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rotate_half(x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
    low, high = x.chunk(2, dim=-1)
    return torch.cat((-high, low), dim=-1)


def rotate(
    x: Float[Tensor, "*shape dim"], cos: Float[Tensor, "*#shape dim"], sin: Float[Tensor, "*#shape dim"]
) -> Float[Tensor, "*shape dim"]:
    return x * cos + rotate_half(x) * sin


def rotate_(
    x: Float[Tensor, "*batch layers heads tokens dim"],
    cos: Float[Tensor, "*#batch #layers #heads tokens dim"],
    sin: Float[Tensor, "*#batch #layers #heads tokens dim"],
) -> Float[Tensor, "*batch layers heads tokens dim"]:
    """As `rotate`, in place and to the bit: layer by layer, so that little is held besides."""
    by_layer = (part.expand_as(x).unbind(dim=-4) for part in (x, cos, sin))
    for layer, its_cos, its_sin in zip(*by_layer, strict=True):
        (low, high), (sin_low, sin_high) = (part.chunk(2, dim=-1) for part in (layer, its_sin))
        from_high, from_low = high * sin_low, low * sin_high
        layer.mul_(its_cos)
        low.sub_(from_high)
        high.add_(from_low)
    return x
