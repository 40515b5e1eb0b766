"""VSTs of all ratios in one pre-fill: what they are, what later chunks see, and where that is undefined."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models import chunks, index_of, tiny_backbone
from torch.utils.flop_counter import FlopCounterMode

from x2l import Pipeline
from x2l.compressors.cluster import clustered
from x2l.compressors.vst import VST, place_vsts
from x2l.errors import X2LError
from x2l.oracles.annotated import Annotated
from x2l.selectors.constant import Constant
from x2l.selectors.top_k import TopK

RATIOS = (2, 8)
ONE_PASS = [
    VST(passes="joint"),
    VST(passes="joint", memory="high"),
    VST(passes="pooled"),
    VST(passes="clustered"),
]
MOST_FLOPS = (0.67, 0.64, 0.66, 0.66)
IDS = ["joint low", "joint high", "pooled", "clustered"]


def levels_of(index, ratio):
    return [chunk.levels[ratio] for chunk in index.chunks]


@pytest.fixture(params=[False, True], ids=["even", "ragged"])
def source(request, backbone):
    return chunks(backbone, num_chunks=4, ragged=request.param)


@pytest.mark.parametrize("compressor", ONE_PASS, ids=IDS)
@pytest.mark.parametrize("edge_ratio", [2, None])
@pytest.mark.parametrize("ratios", [(2, 8), (8, 2), (2, 4, 8)])
def test_levels_are_as_large_as_in_passes_of_their_own(backbone, source, compressor, edge_ratio, ratios):
    compressor = VST(edge_ratio=edge_ratio, passes=compressor.passes, memory=compressor.memory)
    one, own = (index_of(backbone, c, source, ratios) for c in (compressor, VST(edge_ratio=edge_ratio)))
    for ratio in ratios:
        for level, expected in zip(levels_of(one, ratio), levels_of(own, ratio), strict=True):
            # Means do not wait for the tokens of the next chunk.
            spare = 1 if compressor.passes in ("pooled", "clustered") else 0
            assert abs(level.num_tokens - expected.num_tokens) <= spare
            assert level.counts.shape == (level.num_tokens,)


@pytest.mark.parametrize("compressor", ONE_PASS, ids=IDS)
def test_one_ratio_is_a_pass_of_its_own(backbone, source, compressor):
    one, own = (index_of(backbone, c, source, (4,)) for c in (compressor, VST()))
    for level, expected in zip(levels_of(one, 4), levels_of(own, 4), strict=True):
        assert torch.equal(level.keys, expected.keys) and torch.equal(level.values, expected.values)


def test_pooled_tokens_are_means_of_the_finest(backbone, source):
    one, own = (index_of(backbone, c, source, RATIOS) for c in (VST(passes="pooled"), VST()))
    for fine, expected in zip(levels_of(one, 2), levels_of(own, 2), strict=True):
        assert torch.equal(fine.keys, expected.keys)
    for fine, coarse in list(zip(levels_of(one, 2), levels_of(one, 8), strict=True))[1:-1]:
        torch.testing.assert_close(coarse.keys[..., 0, :], fine.keys[..., :4, :].mean(dim=-2))
        assert coarse.counts.sum() == fine.counts.sum()
    assert levels_of(one, 2)[0] is levels_of(one, 8)[0]  # the first chunk is at the edge ratio in both


def test_clustered_tokens_are_means_of_the_finest_that_are_alike(backbone, source):
    one, own = (index_of(backbone, c, source, RATIOS) for c in (VST(passes="clustered"), VST()))
    for fine, expected in zip(levels_of(one, 2), levels_of(own, 2), strict=True):
        assert torch.equal(fine.keys, expected.keys)
    for fine, coarse in list(zip(levels_of(one, 2), levels_of(one, 8), strict=True))[1:-1]:
        (expected,) = clustered(fine, [4])
        assert torch.equal(coarse.keys, expected.keys) and coarse.num_tokens == fine.num_tokens // 4
        assert coarse.counts.sum() == fine.counts.sum()


def test_kinds_share_a_sequence_the_finest_first(backbone):
    """One pre-fill with places by hand; and causal, so that what precedes a coarse VST is as ever."""
    source = chunks(backbone, num_chunks=1)
    index = index_of(backbone, VST(passes="joint", edge_ratio=None), source, RATIOS)
    own = index_of(backbone, VST(edge_ratio=None), source, RATIOS)
    tokens = source[0].visual_tokens.shape[-2]
    by_kind = {ratio: place_vsts(tokens, ratio, 0, "reset")[0].tolist() for ratio in RATIOS}
    places = sorted((place, ratio) for ratio, placed in by_kind.items() for place in placed)
    start = backbone.extend(None, backbone.begin())
    by_hand = backbone.prefill_vst(source[0], start, torch.tensor([place for place, _ in places]))
    for ratio in RATIOS:
        rows = [row for row, (_, kind) in enumerate(places) if kind == ratio]
        torch.testing.assert_close(index.chunks[0].levels[ratio].keys, by_hand.keys[..., rows, :])
    before = by_kind[8][0] // 2
    first, expected = (i.chunks[0].levels[2].values[..., :before, :] for i in (index, own))
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("memory", "ratio"), [("low", 2), ("high", 8)])
def test_later_chunks_see_one_kind_only(backbone, source, memory, ratio, monkeypatch):
    extended, extend = [], type(backbone).extend
    monkeypatch.setattr(
        type(backbone), "extend", lambda self, m, kv: extended.append(kv.num_tokens) or extend(self, m, kv)
    )
    index = index_of(backbone, VST(passes="joint", memory=memory), source, RATIOS)
    assert extended[1:] == [level.num_tokens for level in levels_of(index, ratio)]


@pytest.mark.parametrize("compressor", ONE_PASS, ids=IDS)
def test_gradients_reach_vsts(source, compressor):
    backbone = tiny_backbone()
    encoded = list(compressor.encode(backbone, backbone.begin(), source, RATIOS))
    encoded[2].levels[8].keys.square().mean().backward()
    weight = backbone.model.model.layers[0].self_attn.beacon_k_proj.weight
    assert weight.grad is not None and weight.grad.abs().max() > 0


@pytest.mark.parametrize(("compressor", "most"), [*zip(ONE_PASS, MOST_FLOPS, strict=True)], ids=IDS)
@torch.no_grad()
def test_one_pass_computes_less(backbone, compressor, most):
    source, flops = chunks(backbone, num_chunks=16), []
    for each in (compressor, VST()):
        with FlopCounterMode(display=False) as counter:
            index_of(backbone, each, source, (2, 32))
        flops.append(counter.get_total_flops())
    assert flops[0] / flops[1] < most


@pytest.mark.parametrize("compressor", ONE_PASS, ids=IDS)
def test_they_are_asked_like_any_index(backbone, source, compressor):
    index = index_of(backbone, compressor, source, RATIOS)
    for selector in (TopK(1), Constant(8)):
        pipeline = Pipeline(backbone, compressor, Annotated(), selector, RATIOS)
        assert pipeline.ask(index, "What is this?", max_new_tokens=2).kv_tokens > 0


def test_what_is_undefined_is_refused(backbone, source):
    for passes in ("joint", "pooled", "clustered"):
        with pytest.raises(X2LError, match=r"ratios: expected each to divide the next .* got 2 and 5"):
            index_of(backbone, VST(passes=passes), source, (5, 2))
    for passes in ("own", "pooled"):
        with pytest.raises(X2LError, match=f"compressor.memory: expected low with passes {passes}, got high"):
            VST(passes=passes, memory="high")


def test_the_benchmark_of_long_videos_runs(tmp_path):
    """Two short videos: later chunks of a joint pass with H-KVs in memory read a shorter past."""
    script = Path(__file__).parents[2] / "benchmarks" / "long_video.py"
    command = [sys.executable, str(script), "--frames", "60", "--way", "joint high"]
    row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert row["stored_gb"] > 0 and row["peak_memory_gb"] < 1.5 and len(row["seconds_per_chunk"]) == 1
