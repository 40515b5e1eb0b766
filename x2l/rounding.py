"""Guards against rounding: contexts that compute more exactly than it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Without TF32, cuDNN's default for convolutions on CUDA: it would be felt in the third digit."""
    switch, name, exact = _SWITCH
    before = getattr(switch, name)
    setattr(switch, name, exact)
    try:
        yield
    finally:
        setattr(switch, name, before)


_CUDNN = torch.backends.cudnn
# The old switch raises where somebody has used the new one.
_SWITCH = (
    (_CUDNN.conv, "fp32_precision", "ieee") if hasattr(_CUDNN, "conv") else (_CUDNN, "allow_tf32", False)
)


def in_full_precision(device_type: str) -> AbstractContextManager:
    """Without autocast: mixed-precision training would round scores until other chunks are chosen."""
    return nullcontext() if device_type == "meta" else torch.autocast(device_type, enabled=False)
