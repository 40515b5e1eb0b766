"""What another compressor makes, in fewer bits: close to it, small, and as willing as it."""

from dataclasses import dataclass

import pytest
import torch
from models import index_of, tiny_backbone

from x2l import registry
from x2l.cache import assemble, planned_levels
from x2l.compressors.mean_pool import MeanPool
from x2l.compressors.packed import Packed
from x2l.compressors.vst import VST
from x2l.on_device import OnDevice
from x2l.oracles.annotated import Annotated
from x2l.pipeline import Pipeline
from x2l.quantised import PackedKV
from x2l.selectors.constant import Constant
from x2l.types import KV, Plan


@dataclass
class FirstHalf(MeanPool):
    """Answers on the first half of each chunk."""

    def refine(self, levels, plan, question, index, backbone):
        return [kv.part(slice(kv.num_tokens // 2)) for kv in levels]


@pytest.mark.parametrize(("bits", "off"), [(8, 0.01), (4, 0.15)])
@torch.no_grad()
def test_it_holds_what_the_inner_one_makes_in_fewer_bits(bits, off, backbone):
    plain, held = (index_of(backbone, each, ratios=(2, 32)) for each in (VST(), Packed(VST(), bits)))
    assert held.num_bytes < plain.num_bytes
    for exact, chunk in zip(plain.chunks, held.chunks, strict=True):
        assert isinstance(chunk.levels[2], PackedKV)
        kv, right = chunk.levels[2].materialise(), exact.levels[2]
        for part in ("keys", "values"):
            one, other = getattr(kv, part), getattr(right, part)
            assert (one - other).norm() < off * other.norm()
        assert torch.equal(kv.positions, right.positions) and torch.equal(kv.counts, right.counts)
    # At the edges both levels are one; a level of a single token is no smaller packed.
    assert held.chunks[0].levels[2] is held.chunks[0].levels[32]
    assert isinstance(held.chunks[1].levels[32], KV)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_what_is_packed_is_unpacked_in_its_place_in_a_cache(bits, dtype):
    backbone, plan = tiny_backbone(dtype=dtype), Plan((2, 8, 2, 8))
    index = index_of(backbone, Packed(VST(), bits), ratios=(2, 8))
    levels = planned_levels(index, plan, OnDevice(backbone.device, 0).ready)
    assert PackedKV in map(type, levels)
    cache, right = assemble(index, plan, backbone, levels=levels), assemble(index, plan, backbone)
    for layer, expected in zip(cache.layers, right.layers, strict=True):
        assert layer.keys.dtype == dtype
        assert torch.equal(layer.keys, expected.keys) and torch.equal(layer.values, expected.values)


@torch.no_grad()
def test_what_is_packed_is_unpacked_for_an_answer(backbone):
    plan = Plan((2, 8, 2, 8))
    keys, right = (
        assemble(index_of(backbone, each, ratios=(2, 8)), plan, backbone).layers[1].keys
        for each in (Packed(VST()), VST())
    )
    assert keys.dtype == right.dtype
    torch.testing.assert_close(keys, right, atol=0.02, rtol=0.02)


def test_it_asks_of_a_backbone_what_the_inner_one_does():
    for name in ("vst", "snap", "mean_pool"):
        packed = registry.build("compressor", {"name": "packed", "inner": name})
        assert packed.requires == registry.get("compressor", name).requires


@torch.no_grad()
def test_a_second_stage_of_the_inner_one_is_taken(backbone, video):
    parts = Annotated(), Constant(2)
    for inner, share in ((FirstHalf(), 0.5), (MeanPool(), 1.0)):
        pipeline = Pipeline(backbone, Packed(inner), *parts, (2, 8))
        index = pipeline.index(video)
        stored = sum(index.planned_tokens(Plan((2,) * len(index.chunks))))
        for answer in pipeline.ask_many(index, ["What is this?", "Where is it?"], max_new_tokens=1):
            assert answer.kv_tokens == pytest.approx(share * stored, abs=len(index.chunks))
        assert pipeline.compressor.refines == (share < 1)
