"""Host memory that a device fills and reads while it goes on working."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from math import prod

import torch
from torch import Tensor

BLOCK_BYTES = 2**26
_ALIGNED_BYTES = 64


def a_quarter_of_all() -> int:
    """Bytes: of the machine's memory, or of 32 GB where that is not told."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (AttributeError, ValueError, OSError):
        return 2**33


class HostMemory:
    """Tensors of a CUDA device in pinned memory, as long as there is room; in plain memory for any other.

    Memory is pinned block by block, since pinning is slow. A block is freed with the last tensor in it, and
    torch keeps it for the next.

    limit_bytes: of all blocks that are pinned, by whomever; tensors beyond it are in plain memory.
    """

    pinned_bytes: int = 0
    """Of all blocks that hold tensors."""

    def __init__(self, device: torch.device, limit_bytes: int | None = None, block_bytes: int = BLOCK_BYTES):
        self.device, self.block_bytes = device, block_bytes
        self.limit_bytes = a_quarter_of_all() if limit_bytes is None else limit_bytes
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._free = torch.empty(0, dtype=torch.uint8)

    def hold(self, tensor: Tensor) -> Tensor:
        """The tensor in host memory. It is all there after `wait`; one that lies there stays what it is."""
        return tensor if tensor.device.type == "cpu" else self.copy(tensor)

    def copy(self, tensor: Tensor) -> Tensor:
        """A copy in host memory, made beside what the device does next. It is all there after `wait`."""
        place = self._place(tensor.shape, tensor.dtype)
        if self._stream:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            tensor.record_stream(self._stream)
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            return place.copy_(tensor.detach(), non_blocking=True)

    def wait(self) -> None:
        """Until everything is there."""
        if self._stream:
            self._stream.synchronize()

    def _place(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        num_bytes = prod(shape) * dtype.itemsize
        if num_bytes > len(self._free):
            self._free = self._block(max(num_bytes, self.block_bytes))
        place, rest = self._free[:num_bytes], -(-num_bytes // _ALIGNED_BYTES) * _ALIGNED_BYTES
        self._free = self._free[rest:]
        return place.view(dtype).view(shape)

    def _block(self, num_bytes: int) -> Tensor:
        pins = self._stream is not None and HostMemory.pinned_bytes + num_bytes <= self.limit_bytes
        block = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=pins)
        if pins:
            HostMemory.pinned_bytes += num_bytes
            weakref.finalize(block.untyped_storage(), _unpinned, num_bytes)
        return block


def _unpinned(num_bytes: int) -> None:
    HostMemory.pinned_bytes -= num_bytes
