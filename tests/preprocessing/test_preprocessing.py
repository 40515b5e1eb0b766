"""Frames travel to the device as uint8 and are normalised there: a quarter of the bytes, the same pixels."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from x2l.preprocessing.frames import squares
from x2l.preprocessing.pixels import CLIP_MEAN, CLIP_STD, Preprocessing, preprocess

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 30, 44, 3), dtype=np.uint8)
SETTINGS = {"size": {"height": 24, "width": 20}, "image_mean": CLIP_MEAN, "image_std": CLIP_STD}
WAYS = {
    "clip": lambda device: preprocess(FRAMES, 24, device),
    "stretched": lambda device: Preprocessing(24, None)(FRAMES, device),
    "stock": lambda device: squares(FRAMES, SETTINGS, device),
}


class Crossings(TorchDispatchMode):
    """Types of the tensors of frames that go from one device to another."""

    def __init__(self):
        super().__init__()
        self.dtypes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        source = args[0] if args else None
        if isinstance(source, torch.Tensor) and source.device != out.device and out.numel() > 3:
            self.dtypes.append(out.dtype)
        return out


@pytest.mark.parametrize("way", WAYS)
def test_only_bytes_cross_to_the_device(way):
    with Crossings() as crossings:
        pixels = WAYS[way](torch.device("meta"))
    assert crossings.dtypes == [torch.uint8]
    assert pixels.device.type == "meta" and pixels.shape == WAYS[way](torch.device("cpu")).shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("way", WAYS)
def test_a_gpu_normalises_as_the_cpu(way):
    expected, pixels = (WAYS[way](torch.device(device)) for device in ("cpu", "cuda"))
    torch.testing.assert_close(pixels.cpu(), expected, atol=1e-5, rtol=1e-5)
