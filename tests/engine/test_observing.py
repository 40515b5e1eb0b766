"""Compressors that look at the pre-fill, and parts that refine a question's cache, as others write them."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from models import QUESTION, chunks, index_of, tiny_video_xl_2
from pages import blocks

from x2l import ChunkCompressor, Pipeline, registry
from x2l.backbones.video_xl import SYSTEM_PROMPT
from x2l.cache import assemble
from x2l.chunkers.fixed import Fixed
from x2l.compressors.identity import Identity
from x2l.compressors.key_norm import KeyNorm
from x2l.compressors.vst import VST
from x2l.oracles.attention import AttentionScore
from x2l.selectors.constant import Constant
from x2l.training.recomputing import recomputing
from x2l.types import DROPPED, KV, ObservedKV, Plan, Question, X2LError
from x2l.video import Sampling, open_video


def of_the_page(name: str) -> type:
    """A class that CONTRIBUTING.md shows."""
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    (code,) = (block for block in blocks("python", page) if f"class {name}(" in block)
    names = {"__name__": __name__}
    exec(code, names)
    return names[name]


LastLook = of_the_page("LastLook")


@dataclass
class QuestionAware(KeyNorm):
    """Of the chunks that a plan loads, keeps the half that the question attends to most."""

    requires = frozenset({"attention"})

    def refine(self, levels, plan, question, index, backbone):
        cache = assemble(index, plan, backbone, levels=levels)
        weights = backbone.attention(backbone.encode_question(question), cache).cpu()
        weights = weights.unflatten(1, (levels[0].keys.shape[-3], -1)).mean(dim=2)
        sizes = [kv.num_tokens for kv in levels]
        mine = weights[..., index.prefix.num_tokens :][..., : sum(sizes)].split(sizes, dim=-1)
        kept = [w.topk(-(-w.shape[-1] // 2)).indices.sort().values for w in mine]
        return [kv.take(indices) for kv, indices in zip(levels, kept, strict=True)]


@torch.no_grad()
def test_attention_weights_are_those_that_the_pre_fill_forms(backbone):
    """The second chunk's, against the whole sequence in one eager pass."""
    first, second = chunks(backbone, num_chunks=2)
    memory = backbone.extend(None, prefix := backbone.begin())
    memory = backbone.extend(memory, backbone.prefill(first, memory))
    kv, observed = backbone.prefill_observed(second, memory, {"attention"})
    whole = torch.cat((backbone.embed_text(SYSTEM_PROMPT), first.visual_tokens, second.visual_tokens))
    assert len(whole) - kv.num_tokens == prefix.num_tokens + len(first.visual_tokens)
    network = backbone.decoder
    network.set_attn_implementation("eager")
    expected = torch.cat(network(inputs_embeds=whole[None], output_attentions=True).attentions)
    network.set_attn_implementation("sdpa")
    got = observed.attend(5)
    torch.testing.assert_close(got, expected[..., -5:, -kv.num_tokens :], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_only_what_is_asked_for_is_handed_over_and_the_kvs_are_the_same(backbone):
    (chunk,) = chunks(backbone, num_chunks=1)
    memory = backbone.extend(None, backbone.begin())
    plain, num_tokens = backbone.prefill(chunk, memory), len(chunk.visual_tokens)
    kv, observed = backbone.prefill_observed(chunk, memory, {"hidden"})
    assert torch.equal(kv.keys, plain.keys) and torch.equal(kv.values, plain.values)
    layers, heads, width = backbone.geometry.num_layers, 4, 64
    assert (
        observed.hidden.shape == (layers, num_tokens, width) and observed.queries is observed.attend is None
    )
    # Keys are another projection of what is handed over: every layer's, the last one's too.
    for layer, hidden, keys in zip(backbone.decoder.layers, observed.hidden, kv.keys, strict=True):
        made = layer.self_attn.k_proj(hidden).unflatten(-1, (len(keys), -1)).transpose(0, 1)
        torch.testing.assert_close(made, keys)
    _, observed = backbone.prefill_observed(chunk, memory, {"queries"})
    assert observed.queries.shape == (layers, heads, num_tokens, width // heads)
    assert observed.hidden is observed.attend is None


@pytest.mark.parametrize(
    "compressor", [KeyNorm(), LastLook(), LastLook(memory="compressed"), LastLook(edge_ratio=2)]
)
@torch.no_grad()
def test_a_score_is_a_compressor(backbone, compressor):
    source = chunks(backbone, num_chunks=3)
    index = index_of(backbone, compressor, source, (1, 4))
    for chunk, made in zip(source, index.chunks, strict=True):
        at_edge = compressor.edge_ratio and made.index in (0, 2)
        assert made.levels[4].num_tokens == len(chunk.visual_tokens) // (2 if at_edge else 4)
        for level in made.levels.values():
            assert type(level) is KV, "what was observed is not stored"
            assert (level.positions.diff(dim=-1) > 0).all()
    assert assemble(index, Plan((4, 1, 4)), backbone).tokens_per_chunk[1] == made.num_visual_tokens


@torch.no_grad()
def test_tokens_are_kept_by_their_score_in_each_layer_and_head(backbone):
    (chunk,) = chunks(backbone, num_chunks=1)
    kv = backbone.prefill(chunk, backbone.extend(None, backbone.begin()))
    kept, scores = KeyNorm().compress(kv, 3), -kv.keys.norm(dim=-1)
    for layer, head in ((0, 0), (2, 1)):
        rows = kept.positions[0, layer, head] - kv.positions[0, 0, 0, 0]
        assert torch.equal(kept.keys[layer, head], kv.keys[layer, head, rows])
        dropped = torch.ones(kv.num_tokens, dtype=torch.bool).index_fill(0, rows, False)
        assert scores[layer, head, rows].min() >= scores[layer, head, dropped].max()


def test_a_pre_fill_in_blocks_has_no_attention_weights_over_a_chunk():
    assert "observe_attention" in registry.required(LastLook()) and not registry.required(KeyNorm())
    with pytest.raises(X2LError, match="needs observe_attention, which"):
        Pipeline(tiny_video_xl_2(), LastLook(), AttentionScore(), Constant(4), (1, 4))


@torch.no_grad()
def test_blocks_show_their_queries_in_the_order_of_the_chunk(video):
    backbone = tiny_video_xl_2()
    clip = next(open_video(video.path, Sampling(fps=2.0)).clips([8]))
    prefix = backbone.begin()
    chunk = backbone.read(0, clip, prefix.num_tokens)
    kv, observed = backbone.prefill_observed(chunk, backbone.extend(None, prefix), {"queries", "hidden"})
    assert observed.queries.shape[-2] == observed.hidden.shape[-2] == kv.num_tokens
    made = backbone.decoder.layers[-1].self_attn.k_proj(observed.hidden[-1])
    torch.testing.assert_close(made.unflatten(-1, (kv.keys.shape[1], -1)).transpose(0, 1), kv.keys[-1])


def test_training_observes_too(backbone):
    (chunk,) = chunks(backbone, num_chunks=1)
    again = recomputing(backbone)
    memory = again.extend(None, again.begin())
    kv, observed = again.prefill_observed(chunk, memory, {"attention"})
    _, expected = backbone.prefill_observed(chunk, memory.joined(), {"attention"})
    assert kv.keys.requires_grad and not observed.attend(2).requires_grad
    assert torch.equal(observed.attend(2), expected.attend(2))


# A question's own cache


def refined(backbone, video, selector=None, compressor=None):
    compressor = compressor or QuestionAware()
    parts = compressor, AttentionScore(), selector or Constant(2)
    pipeline = Pipeline(backbone, *parts, (2, 8), chunker=Fixed(2))
    return pipeline, pipeline.index(video)


def test_a_part_may_refine_a_questions_cache_and_the_costs_are_those_of_the_cache(backbone, video):
    pipeline, index = refined(backbone, video)
    planned = index.planned_tokens(Plan((2,) * len(index.chunks)))
    answer = pipeline.ask(index, QUESTION)
    assert answer.kv_tokens_per_chunk == tuple(-(-tokens // 2) for tokens in planned)
    assert answer.kv_bytes == answer.kv_tokens * index.spec.geometry.bytes_per_token
    cache = pipeline.cache(index, answer.plan, Question(answer.text or "?"))
    assert cache.get_seq_length() == index.prefix.num_tokens + answer.kv_tokens


def test_questions_that_are_asked_together_have_their_own_refined_caches(backbone, video):
    pipeline, index = refined(backbone, video)
    questions = [QUESTION, Question("Which card is red?", options=("one", "two"))]
    together = pipeline.ask_many(index, questions)
    alone = [pipeline.ask(index, question) for question in questions]
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.kv_tokens for a in together] == [a.kv_tokens for a in alone]


@dataclass
class DropsAll(Constant):
    """A selector whose stage loses chunks."""

    def refine(self, levels, plan, question, index, backbone):
        return levels[1:]


def test_a_stage_that_loses_chunks_is_refused(backbone, video):
    pipeline, index = refined(backbone, video, DropsAll(2), VST())
    with pytest.raises(X2LError, match=r"plan: keeps \d+ chunks, got KVs of"):
        pipeline.ask(index, QUESTION)


def test_a_dropped_chunk_costs_nothing(backbone):
    index = index_of(backbone, Identity(), chunks(backbone, num_chunks=3), (1,))
    assert assemble(index, Plan((1, DROPPED, 1)), backbone).tokens_per_chunk[1] == 0


@dataclass
class Halves(ChunkCompressor):
    """Says what it is given."""

    observes = frozenset({"hidden"})

    def compress(self, kv, ratio):
        assert isinstance(kv, ObservedKV) and kv.hidden.shape[-2] == kv.num_tokens
        return kv.part(slice(0, -(-kv.num_tokens // ratio)))


@torch.no_grad()
def test_a_compressor_that_cuts_what_it_observes_stores_plain_kvs(backbone):
    index = index_of(backbone, Halves(), chunks(backbone, num_chunks=2), (2,))
    assert all(type(chunk.levels[2]) is KV for chunk in index.chunks)


def test_the_query_aware_compressor_of_the_page_keeps_half_of_what_is_planned(backbone, video):
    pipeline, index = refined(backbone, video, Constant(2), of_the_page("QuestionAware")())
    plan = Plan((2,) * len(index.chunks))
    caches = [pipeline.cache(index, plan, Question(text)) for text in ("Is there a red star ?", "count the")]
    halves = tuple(max(1, round(n / 2)) for n in index.planned_tokens(plan))
    assert all(cache.tokens_per_chunk == halves for cache in caches)
    assert not torch.equal(caches[0].layers[0].values, caches[1].layers[0].values)
