"""Cached tokens are weighed by how many they stand for: counted by compressors, kept, and heard alike."""

import json
from dataclasses import replace
from shutil import which

import pytest
import torch
from models import QUESTION, chunks, index_of, tiny_backbone

from x2l import Pipeline
from x2l.cache import assemble
from x2l.compressors.identity import Identity
from x2l.compressors.low_resolution import LowResolution
from x2l.compressors.mean_pool import MeanPool
from x2l.compressors.vst import VST
from x2l.errors import X2LError
from x2l.oracles.annotated import Annotated
from x2l.oracles.llm_attention import LLMAttention
from x2l.proportional import OFF, Proportional
from x2l.recipe import Recipe
from x2l.selectors.top_k import TopK
from x2l.storage import store
from x2l.training.x2l_module import X2LModule
from x2l.types import Plan

ON = Proportional(1.0)
MIXED = Plan((2, 8, 2))
NEEDS_COMPILER = pytest.mark.skipif(not which("g++"), reason="flex attention is compiled, there is no g++")


@pytest.fixture(scope="module")
def source(backbone):
    return chunks(backbone, num_chunks=3)


@pytest.fixture(scope="module")
def index(backbone, source):
    return index_of(backbone, VST(edge_ratio=None), source)


def pipeline_of(backbone, proportional=ON, oracle=None) -> Pipeline:
    parts = VST(edge_ratio=None), oracle or Annotated(), TopK(1)
    return Pipeline(backbone, *parts, (2, 8), proportional=proportional)


def logits(backbone, cache):
    return backbone.logits(backbone.encode_question(QUESTION), cache)


# Counts


@pytest.mark.parametrize("compressor", [VST(edge_ratio=None), VST(), MeanPool(), LowResolution()])
def test_tokens_of_a_chunk_stand_for_all_of_it(backbone, source, compressor):
    for chunk in index_of(backbone, compressor, source).chunks:
        for level in chunk.levels.values():
            assert level.counts.shape == (level.num_tokens,)
            # The last raw tokens of a chunk may wait for the next one's first VST.
            assert level.counts.sum().item() == pytest.approx(chunk.num_visual_tokens, abs=8)


def test_counts_are_those_of_ragged_groups_and_of_what_waits(backbone):
    ragged = chunks(backbone, num_chunks=2, ragged=True)
    pooled = index_of(backbone, MeanPool(), ragged, (1, 8)).chunks[-1].levels
    tokens = ragged[-1].visual_tokens.shape[-2]
    assert pooled[8].counts.tolist() == [8.0] * (tokens // 8) + [float(tokens % 8)] * (tokens % 8 > 0)
    assert pooled[1].counts is None
    summed = index_of(backbone, VST(edge_ratio=None), ragged, (8,))
    assert sum(c.levels[8].counts.sum().item() for c in summed.chunks) <= summed.num_visual_tokens
    assert all(count == 8 for c in summed.chunks for count in c.levels[8].counts.tolist())


def test_counts_follow_their_tokens(index, tmp_path):
    level = index.chunks[1].levels[8]
    uneven = replace(level, counts=torch.arange(1.0, level.num_tokens + 1))
    assert uneven.part(slice(1, 3)).counts.tolist() == [2.0, 3.0]
    taken = uneven.take(torch.tensor([[[0, 1]]]))
    assert taken.counts.tolist() == [uneven.counts.sum().item() / 2] * 2
    assert uneven.to(torch.bfloat16).counts.dtype == torch.float32
    store.save(index, tmp_path / "index")
    again = store.load(tmp_path / "index").chunks[1].levels[8].materialise()
    assert torch.equal(again.counts, level.counts)


def test_a_level_that_does_not_count_stands_for_its_chunk(backbone, index):
    """As in an index that was made before tokens were counted."""
    plain = [
        replace(chunk, levels={ratio: replace(kv, counts=None) for ratio, kv in chunk.levels.items()})
        for chunk in index.chunks
    ]
    weighing = backbone.weighing(ON)
    old, new = (assemble(replace(index, chunks=tuple(c)), MIXED, weighing) for c in (plain, index.chunks))
    torch.testing.assert_close(old.bias, new.bias, atol=0.2, rtol=0)  # tokens may wait for the next VST


# Attention


def test_the_bias_is_that_of_the_equation(backbone, index):
    bias = assemble(index, MIXED, backbone.weighing(ON)).bias
    sizes = [chunk.levels[ratio].num_tokens for chunk, ratio in zip(index.chunks, MIXED.ratios, strict=True)]
    prefix, first, middle, last = bias.split([index.prefix.num_tokens, *sizes])
    assert not prefix.any() and not first.any() and not last.any()
    torch.testing.assert_close(middle, torch.full_like(middle, torch.tensor(4.0).log().item()))
    half = assemble(index, MIXED, backbone.weighing(Proportional(0.5, base=1.0))).bias[len(prefix) :]
    assert half[0].item() == pytest.approx(0.5 * torch.tensor(2.0).log().item())


@torch.no_grad()
def test_a_weighed_token_is_heard_like_its_copies(backbone):
    """Attention to a token with ln n is that to n tokens alike: the identity behind the method."""
    kv = index_of(backbone, Identity(), chunks(backbone, 1), (1,))
    (chunk,) = kv.chunks
    level, position = chunk.levels[1], 5
    counts = torch.ones(level.num_tokens).index_fill(0, torch.tensor([position]), 3.0)
    counted = replace(kv, chunks=(replace(chunk, levels={1: replace(level, counts=counts)}),))
    weighed = assemble(counted, Plan((1,)), backbone.weighing(Proportional(1.0, base=1.0)))
    plain = assemble(kv, Plan((1,)), backbone)
    column = kv.prefix.num_tokens + position
    for layer in plain.layers:
        for name in ("keys", "values"):
            states = getattr(layer, name)
            copies = states[:, :, column : column + 1].expand(-1, -1, 2, -1)
            setattr(layer, name, torch.cat((states, copies), dim=2))
    plain.position_shift -= 2
    torch.testing.assert_close(logits(backbone, weighed), logits(backbone, plain), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attention", ["eager", pytest.param("flex_attention", marks=NEEDS_COMPILER)])
@torch.no_grad()
def test_implementations_agree_in_a_block_and_token_by_token(index, attention):
    reference, other = tiny_backbone().weighing(ON), tiny_backbone()
    other.model.set_attn_implementation(attention)
    other = other.weighing(ON)
    expected = logits(reference, assemble(index, MIXED, reference))
    unweighed = logits(reference, assemble(index, MIXED, tiny_backbone()))
    assert (expected - unweighed).abs().max() > 1e-3
    torch.testing.assert_close(logits(other, assemble(index, MIXED, other)), expected, atol=1e-5, rtol=1e-5)
    cache = assemble(index, MIXED, other)
    ids = other.encode_question(QUESTION)
    steps = torch.cat([other.logits(token[None], cache) for token in ids])
    torch.testing.assert_close(steps, expected, atol=1e-5, rtol=1e-5)
    assert other.model.config._attn_implementation == attention


def test_attention_that_takes_no_bias_is_refused_in_one_line():
    backbone = tiny_backbone()
    backbone.model.config._attn_implementation = "flash_attention_2"
    message = "backbone.attention: flash_attention_2 cannot weigh .*, expected sdpa, eager or flex_attention"
    with pytest.raises(X2LError, match=message):
        pipeline_of(backbone)
    assert pipeline_of(backbone, OFF).backbone is backbone


@torch.no_grad()
def test_one_level_at_the_base_is_bit_identical_to_off(backbone, index):
    for ratio in (2, 8):
        weighings = OFF, Proportional(1.0, base=float(ratio))
        caches = [assemble(index, Plan((ratio,) * 3), backbone.weighing(each)) for each in weighings]
        assert caches[1].bias is None
        assert torch.equal(*(logits(backbone, cache) for cache in caches))


# Every way of asking


@torch.no_grad()
def test_the_oracle_that_asks_the_model_sees_the_same_cache(backbone):
    """Edges at 2x in a coarse plan: their weights differ from off."""
    index = index_of(backbone, VST(edge_ratio=2), chunks(backbone, 4))
    on, off = (pipeline_of(backbone, p, LLMAttention()) for p in (ON, OFF))
    question = QUESTION
    assert on.plan(question, index).scores != off.plan(question, index).scores


def test_a_recipe_says_it_and_is_as_ever_without():
    assert "proportional" not in Recipe().to_mapping()
    on = Recipe().apply(["proportional.beta=1"])
    assert on.proportional == ON and on.to_mapping()["proportional"] == {"beta": 1.0, "base": None}
    assert Recipe.from_mapping(json.loads(json.dumps(on.to_mapping()))) == on
    for field in ("beta=-1", "base=0.5"):
        with pytest.raises(X2LError, match=f"proportional.{field.partition('=')[0]}: expected a number of"):
            Recipe().apply([f"proportional.{field}"])


def test_training_sees_it(backbone, index):
    """Through the same lines, with gradients."""
    pipeline = pipeline_of(tiny_backbone())
    module = X2LModule(pipeline, trains=["language_model"], num_steps=1)
    asked = replace(QUESTION, answer="red")
    on = module.answer_logits(pipeline, index, MIXED, asked)[0]
    unweighed = replace(pipeline, proportional=OFF)
    off = module.answer_logits(unweighed, index, MIXED, asked)[0]
    assert on.requires_grad and not torch.allclose(on, off, atol=1e-4)
