"""Where rounding would be felt: what computes more exactly than it is told to."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def exact_convolutions() -> AbstractContextManager:
    """Without TF32, cuDNN's default for convolutions on CUDA: it would be felt in the third digit."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def in_full_precision(device_type: str) -> AbstractContextManager:
    """Without autocast: mixed-precision training would round scores until other chunks are chosen."""
    return torch.autocast(device_type, enabled=False)
