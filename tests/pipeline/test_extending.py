"""Methods of others at the edges of what the four slots promise: it works, or it is one clear line."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from models import chunks, index_of, index_of_clips, tiny_backbone
from pages import blocks

from x2l.cache import assemble
from x2l.chunkers.fixed import Fixed
from x2l.compressors.identity import Identity
from x2l.compressors.mean_pool import MeanPool
from x2l.compressors.vst import VST
from x2l.engine.chunkwise import ChunkCompressor
from x2l.host_memory import HostMemory
from x2l.interfaces import Oracle
from x2l.oracles.annotated import Annotated
from x2l.oracles.attention import AttentionScore
from x2l.pipeline import Pipeline
from x2l.pipeline.indexing import in_host_memory
from x2l.rounding import exact_convolutions
from x2l.selectors.constant import Constant
from x2l.selectors.top_k import TopK
from x2l.storage import store
from x2l.types import KV, Clip, Plan, Question, X2LError

QUESTION = "What colour is the card?"


def clips_of(backbone):
    return [Clip(chunk.frames, chunk.times_s) for chunk in chunks(backbone)]


# Compressors


@dataclass
class LargestKeys(ChunkCompressor):
    """Each layer and head keeps other tokens: those with the largest keys."""

    def compress(self, kv: KV, ratio: int) -> KV:
        count = -(-kv.num_tokens // ratio)
        kept = kv.keys.norm(dim=-1).topk(count).indices.sort().values  # [layers, kv_heads, count]
        where = kept[..., None].expand(*kept.shape, kv.keys.shape[-1])
        positions = kv.positions.expand(-1, *kept.shape[:2], -1).gather(-1, kept[None])
        return KV(kv.keys.gather(-2, where), kv.values.gather(-2, where), positions)


@pytest.mark.parametrize("memory", ["full", "compressed"])
@pytest.mark.parametrize("positions", ["contiguous", "original"])
@torch.no_grad()
def test_every_layer_and_head_may_keep_tokens_of_its_own(backbone, memory, positions):
    index = index_of_clips(backbone, LargestKeys(memory=memory), clips_of(backbone), (2, 5))
    cache = assemble(index, Plan((2, 5, 5, 2)), backbone, positions)
    assert cache.get_seq_length() == index.prefix.num_tokens + 10 + 4 + 4 + 10
    # What stands where it stood has the keys that the whole video has there.
    whole = index_of_clips(backbone, Identity(), clips_of(backbone), (1,))
    full = assemble(whole, Plan((1,) * 4), backbone, "original")
    kv, start = index.chunks[0].levels[2], index.prefix.num_tokens
    if positions == "original":
        for layer, head in ((0, 0), (2, 1)):
            made = cache.layers[layer].keys[0, head, start : start + 10]
            expected = full.layers[layer].keys[0, head, kv.positions[0, layer, head]]
            torch.testing.assert_close(made, expected)


@dataclass
class Rotated(ChunkCompressor):
    """Forgets that keys are to be given back before rotation."""

    def compress(self, kv: KV, ratio: int) -> KV:
        return replace(kv.part(slice(None, None, ratio)), rotated=True)


@pytest.mark.parametrize("memory", ["full", "compressed"])
@torch.no_grad()
def test_keys_are_not_rotated_twice(backbone, memory):
    with pytest.raises(X2LError, match=r"keys: expected (all )?before rotation"):
        index = index_of(backbone, Rotated(memory=memory))
        assemble(index, Plan((2,) * 4), backbone)


@dataclass(frozen=True)
class Packed:
    """Half the bytes, and more than the backbone's precision when it is unpacked."""

    half: KV
    device: str = "a device"

    num_tokens = property(lambda self: self.half.num_tokens)
    num_bytes = property(lambda self: self.half.num_bytes)

    def to(self, device):
        return replace(self, device=device)

    def materialise(self) -> KV:
        return self.half.to(torch.float64)


@torch.no_grad()
def test_packed_levels_leave_the_device_and_become_as_precise_as_the_cache(backbone, tmp_path):
    plain = index_of(backbone, VST())
    packed = [
        replace(
            chunk, levels={ratio: Packed(level.to(torch.float16)) for ratio, level in chunk.levels.items()}
        )
        for chunk in plain.chunks
    ]
    host = HostMemory(backbone.device)
    index = replace(plain, chunks=tuple(in_host_memory(chunk, host) for chunk in packed))
    assert {level.device for chunk in index.chunks for level in chunk.levels.values()} == {"cpu"}
    cache, expected = (assemble(each, Plan((2,) * 4), backbone).layers[0].keys for each in (index, plain))
    assert cache.dtype == expected.dtype
    torch.testing.assert_close(cache, expected, atol=1e-2, rtol=1e-2)
    store.save(index, tmp_path / "index")
    again = assemble(store.load(tmp_path / "index"), Plan((2,) * 4), backbone).layers[0].keys
    assert torch.equal(cache, again)


@dataclass
class Untold(Identity):
    function: Callable = print


def test_a_compressor_that_no_recipe_can_name_is_refused_before_the_work(backbone, video, monkeypatch):
    monkeypatch.setattr(backbone, "read", lambda *_: pytest.fail("a frame was read"))
    with pytest.raises(X2LError, match=r"function: .* expected plain data"):
        Pipeline(backbone, Untold(), Annotated(), Constant(), (1,), chunker=Fixed(2)).index(video)


# Oracles


@dataclass
class Negated(Oracle):
    inner: Oracle = field(default_factory=AttentionScore)

    def score(self, question, index, backbone):
        return -self.inner.score(question, index, backbone)


@dataclass
class Mean(Oracle):
    oracles: list[Oracle] = field(default_factory=list)

    def score(self, question, index, backbone):
        return torch.stack([oracle.score(question, index, backbone) for oracle in self.oracles]).mean(dim=0)


def test_an_oracle_that_asks_others_stores_what_they_need(backbone, video):
    inner = AttentionScore()
    oracle = Mean([Negated(inner), inner, Negated(AttentionScore("cosine"))])
    pipeline = Pipeline(backbone, VST(), oracle, TopK(1), (2, 8), chunker=Fixed(2))
    index, question = pipeline.index(video), Question(QUESTION)
    assert {*index.chunks[0].features} == {inner.key, AttentionScore("cosine").key}  # each once
    scores = torch.tensor(pipeline.plan(question, index).scores)
    expected = -AttentionScore("cosine").score(question, index, backbone) / 3
    torch.testing.assert_close(scores, expected)
    # What the inner oracle does not prepare may be another when it is asked.
    Mean([AttentionScore(pool="mean")]).score(question, index, backbone)
    assert Mean([inner]).key == Mean([AttentionScore(pool="mean")]).key != Mean([]).key


def test_an_inner_oracle_needs_what_it_needs(backbone):
    @dataclass
    class Demanding(Negated):
        requires = frozenset({"second_sight"})

    with pytest.raises(X2LError, match="second_sight"):
        Pipeline(backbone, VST(), Mean([Demanding()]), TopK(1), (2, 8), chunker=Fixed(2))


@dataclass
class Features(Oracle):
    """What the backbone's tower sees of the frames, taken while the frames are at hand."""

    requires = frozenset({"frame_features"})

    def prepare(self, chunk, backbone):
        return {"frames": backbone.frame_features(chunk.frames)}

    def score(self, question, index, backbone):
        return torch.stack([stored["frames"].norm(dim=-1).mean() for stored in self.features(index)])


def test_an_oracle_may_look_through_the_backbone(backbone, video):
    index = Pipeline(backbone, VST(), Features(), TopK(1), (2, 8), chunker=Fixed(2)).index(video)
    assert Features().score(Question(QUESTION), index, backbone).shape == (len(index.chunks),)


@dataclass
class NotANumber(Oracle):
    def score(self, question, index, backbone):
        return torch.tensor([0.0, float("nan"), 1.0, 2.0])


def test_a_score_that_is_no_number_is_not_the_best(backbone):
    pipeline = Pipeline(backbone, VST(), NotANumber(), TopK(1), (2, 8), chunker=Fixed(2))
    with pytest.raises(X2LError, match="score of chunk 1 is not a number"):
        pipeline.ask(index_of(backbone, VST()), QUESTION)


# Selectors and backbones


def test_an_answer_without_any_chunk_is_a_guess(backbone):
    pipeline = Pipeline(backbone, VST(), Annotated(), TopK(1, gist_ratio=0), (2, 8), chunker=Fixed(2))
    with pytest.warns(UserWarning, match="top_k: keeps no chunk"):
        answer = pipeline.ask(index_of(backbone, VST()), QUESTION, max_new_tokens=1)
    assert answer.kv_tokens == 0


def test_a_backbone_says_where_its_chunks_end(video, monkeypatch):
    backbone = tiny_backbone()
    read = type(backbone).read
    monkeypatch.setattr(backbone, "read", lambda *args: replace(read(backbone, *args), next_position=None))
    with pytest.raises(X2LError, match="must say next_position"):
        Pipeline(backbone, VST(), Annotated(), Constant(), (2, 8), chunker=Fixed(2)).index(video)


def test_there_are_as_many_options_as_letters():
    assert Question("?", options=("x",) * 26).letters[-1] == "Z"
    with pytest.raises(X2LError, match="27 options, expected at most 26"):
        Question("?", options=("x",) * 27)


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="an older PyTorch")
@pytest.mark.parametrize("chosen", ["none", "ieee", "tf32"])
def test_convolutions_are_exact_and_all_else_is_as_it_was(chosen):
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = chosen
    try:
        was = torch.backends.cudnn.conv.fp32_precision
        with exact_convolutions():
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.cudnn.conv.fp32_precision == was
        assert torch.backends.fp32_precision == chosen
    finally:
        torch.backends.fp32_precision = before


@torch.no_grad()
def test_the_packed_level_of_the_page_is_small_and_close(backbone, video, tmp_path):
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    (code,) = (block for block in blocks("python", page) if "class Int8Pool(" in block)
    names = {"__name__": __name__}
    exec(code, names)
    parts = Annotated(), Constant(2)
    held, plain = (
        Pipeline(backbone, each, *parts, (2, 8), chunker=Fixed(2)).index(video)
        for each in (names["Int8Pool"](), MeanPool())
    )
    assert held.num_bytes < 0.6 * plain.num_bytes
    store.save(held, tmp_path / "index")
    for index in (held, store.load(tmp_path / "index")):
        kv, exact = (i.chunks[1].levels[8].materialise() for i in (index, plain))
        assert (kv.keys - exact.keys).abs().max() < exact.keys.abs().max() / 100
        assert torch.equal(kv.counts, exact.counts)
    pipeline = Pipeline(backbone, names["Int8Pool"](), *parts, (2, 8))
    assert pipeline.ask(held, "What is this?", max_new_tokens=1).kv_tokens > 0
