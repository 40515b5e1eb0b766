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
