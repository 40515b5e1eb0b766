"""Indices of random KVs, and when two are the same."""

from dataclasses import replace

import pytest
import torch

from x2l.types import KV, ChunkKV, Geometry, IndexSpec, VideoIndex, X2LError

LAYERS, KV_HEADS, HEAD_DIM = 2, 3, 4


def random_kv(tokens: int, dtype: str = "float32", start: int = 0) -> KV:
    shape = (LAYERS, KV_HEADS, tokens, HEAD_DIM)
    keys, values = torch.randn(2, *shape, dtype=torch.float32).to(getattr(torch, dtype))
    return KV(keys, values, torch.arange(start, start + tokens).view(1, 1, 1, -1))


def make_index(dtype: str = "float32", num_chunks: int = 3) -> VideoIndex:
    return VideoIndex(
        prefix=random_kv(5, dtype),
        chunks=tuple(make_chunk(index, dtype) for index in range(num_chunks)),
        spec=IndexSpec(
            backbone="tiny@0123",
            geometry=Geometry(LAYERS, KV_HEADS, HEAD_DIM, tokens_per_frame=16, dtype=dtype),
            recipe={"compressor": {"name": "vst"}, "ratios": [2, 32]},
            video={"name": "a.mp4", "fps": 0.1},
            seconds={"prefill": 0.123456789},
        ),
    )


def make_chunk(index: int, dtype: str) -> ChunkKV:
    low = random_kv(8, dtype, start=10 * index)
    high = low if index == 0 else random_kv(1, dtype)  # an edge chunk keeps one KV under both names
    features = {"similarity{}": {"embedding": torch.randn(4), "count": torch.tensor([index])}}
    return ChunkKV(index, 1.1 * index, 1.1 * index + 1, 10, 16, {2: low, 32: high}, features)


def assert_equal_kv(one: KV, other: KV) -> None:
    for part in ("keys", "values", "positions"):
        left, right = getattr(one, part), getattr(other, part)
        assert left.dtype == right.dtype and left.shape == right.shape
        assert torch.equal(bits(left), bits(right))
    assert one.rotated == other.rotated


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


def assert_equal_index(one: VideoIndex, other: VideoIndex) -> None:
    assert one.spec == other.spec and one.ratios == other.ratios and one.num_bytes == other.num_bytes
    assert_equal_kv(one.prefix, other.prefix)
    assert len(one.chunks) == len(other.chunks)
    for left, right in zip(one.chunks, other.chunks, strict=True):
        assert replace(left, levels={}, features={}) == replace(right, levels={}, features={})
        for ratio, level in left.levels.items():
            assert level.num_tokens == right.levels[ratio].num_tokens
            assert level.num_bytes == right.levels[ratio].num_bytes
            assert_equal_kv(level.materialise(), right.levels[ratio].materialise())
        for oracle, features in left.features.items():
            assert all(torch.equal(value, right.features[oracle][name]) for name, value in features.items())


def error_of(call, *args) -> str:
    with pytest.raises(X2LError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)
