"""Codes of 8 and 4 bits are as close as they say, and on disk they are what they are in memory."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from x2l.quantised import PackedKV, Quantised
from x2l.storage import store
from x2l.types import KV, ChunkKV, Geometry, IndexSpec, VideoIndex

BITS = [8, 4]
LAYERS, HEADS, TOKENS, HEAD_DIM = 2, 3, 40, 64


def random_kv(dtype=torch.float32, tokens=TOKENS, seed=0):
    """Channels of keys differ a lot, as those of models do."""
    random = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, LAYERS, HEADS, tokens, HEAD_DIM, generator=random)
    far = 100 * torch.randn(HEAD_DIM, generator=random)
    positions = torch.arange(tokens).view(1, 1, 1, -1)
    return KV((keys + far).to(dtype), values.to(dtype), positions, counts=torch.full((tokens,), 2.0))


@given(
    bits=st.sampled_from(BITS),
    along=st.sampled_from([-1, -2]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    middle=st.floats(-300, 300),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 50.0]),
    seed=st.integers(0, 99),
)
def test_a_number_is_off_by_half_a_scale_at_most(bits, along, dtype, middle, spread, seed):
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(seed)) * spread + middle
    x = x.to(dtype)
    packed = Quantised.of(x, bits, along)
    again = packed.materialise()
    assert again.dtype == dtype and packed.codes.nbytes * 8 == x.numel() * bits
    unit = torch.finfo(dtype).eps / 2
    rounding = unit * x.float().abs().amax() + torch.finfo(dtype).tiny
    assert ((again.float() - x.float()).abs() <= 0.51 * packed.scale.float() + 2 * rounding).all()
    # The scale is no coarser than the range of its group asks for.
    spanned = x.float().amax(along, keepdim=True) - x.float().amin(along, keepdim=True)
    assert (packed.scale.float() <= spanned / (2**bits - 1) * (1 + 2 * unit) + torch.finfo(dtype).tiny).all()


def test_each_channel_of_keys_and_each_token_of_values_has_a_scale():
    kv = random_kv()
    kv.keys[..., 0] *= 1000
    kv.values[..., 0, :] *= 1000
    again = PackedKV.of(kv, 8).materialise()
    assert (again.keys - kv.keys)[..., 1:].abs().max() < 0.02
    assert (again.values - kv.values)[..., 1:, :].abs().max() < 0.02
    assert torch.equal(again.positions, kv.positions) and torch.equal(again.counts, kv.counts)


def test_codes_of_4_bits_are_two_in_a_byte_and_in_order():
    x = torch.arange(16.0).flip(0).view(1, 1, 16)
    packed = Quantised.of(x, 4, along=-1)
    assert packed.codes.shape == (1, 1, 8) and torch.equal(packed.materialise(), x)


def index_of(levels):
    chunk = ChunkKV(0, 0.0, 9.0, 10, 2 * TOKENS, levels)
    geometry = Geometry(LAYERS, HEADS, HEAD_DIM, 8, "float32")
    return VideoIndex(random_kv(tokens=3), (chunk,), IndexSpec("tiny@0", geometry, {}, {}))


@pytest.mark.parametrize("bits", BITS)
def test_a_packed_level_is_stored_as_it_is_held(bits, tmp_path):
    packed = PackedKV.of(random_kv(), bits)
    index = index_of({2: packed, 8: packed, 32: random_kv(tokens=2)})
    store.save(index, tmp_path / "once")
    store.save(store.load(tmp_path / "once"), tmp_path / "twice")
    for folder in (tmp_path / "once", tmp_path / "twice"):
        again = store.load(folder)
        level = again.chunks[0].levels[2]
        assert level is again.chunks[0].levels[8] and again.num_bytes == index.num_bytes
        assert (level.num_tokens, level.num_bytes) == (packed.num_tokens, packed.num_bytes)
        for name, tensor in level.to("cpu").tensors().items():
            assert torch.equal(tensor, packed.tensors()[name])
        kv, right = level.materialise(), packed.materialise()
        assert torch.equal(kv.keys, right.keys) and torch.equal(kv.values, right.values)
        assert store.verify(folder)


@pytest.mark.parametrize(
    ("bits", "dtype", "most"),
    [(8, "float32", 0.33), (8, "bfloat16", 0.57), (4, "float32", 0.2), (4, "bfloat16", 0.32)],
)
def test_files_shrink_as_much_as_memory_does(bits, dtype, most, tmp_path):
    """By the codes; scales and offsets are an eighth of int8 here."""
    kv = random_kv(getattr(torch, dtype))
    sizes = {}
    for name, level in (("plain", kv), ("packed", PackedKV.of(kv, bits))):
        index = replace(index_of({2: level}), prefix=random_kv(tokens=1))
        store.save(index, tmp_path / name)
        sizes[name] = (tmp_path / name / store.TENSORS).stat().st_size, level.num_bytes
    on_disk, held = (sizes["packed"][i] / sizes["plain"][i] for i in (0, 1))
    assert held < most and on_disk < most + 0.05
