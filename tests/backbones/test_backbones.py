"""Every registered backbone with every compressor: a new file in either folder is tested by being there."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from models import index_of_clips, save, tiny_backbone, tiny_video_xl_2
from stock_models import FAMILIES, stock_backbone

from x2l import registry
from x2l.backbones.video_xl import SYSTEM_PROMPT as SYSTEM
from x2l.cache import assemble
from x2l.networks import sparse_prefill
from x2l.pipeline import Pipeline
from x2l.proportional import Proportional
from x2l.selectors.constant import Constant
from x2l.storage import store
from x2l.types import DROPPED, Clip, Plan, Question, VideoFacts, VideoIndex, X2LError

QUESTION = Question("How many stars are there?", options=("one", "two"), history=(("Is it day?", "yes"),))
NUM_FRAMES, FRAMES_PER_CHUNK = 10, 4
RATIOS = (1, 2, 8)


def build(name: str, folder):
    """By the path that a user takes, at a tiny size where the name stands for large weights."""
    if name in FAMILIES:
        return stock_backbone(name, folder)
    if name in ("video_xl", "video_xl_2"):
        save(tiny_backbone() if name == "video_xl" else tiny_video_xl_2(), folder)
        return registry.build("backbone", {"name": name, "model": str(folder)})
    return registry.build("backbone", name)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    made = {}

    def backbone(name):
        if name not in made:
            made[name] = build(name, tmp_path_factory.mktemp(name))
        return made[name]

    return backbone


every_backbone = pytest.mark.parametrize("name", registry.names("backbone"))
every_compressor = pytest.mark.parametrize("method", registry.names("compressor"))


def clips() -> list[Clip]:
    frames = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, 40, 48, 3), dtype=np.uint8)
    facts, times_s = VideoFacts(NUM_FRAMES, float(NUM_FRAMES)), np.arange(float(NUM_FRAMES))
    starts = range(0, NUM_FRAMES, FRAMES_PER_CHUNK)
    parts = [slice(start, start + FRAMES_PER_CHUNK) for start in starts]
    return [Clip(frames[part], times_s[part], part.start, facts) for part in parts]


def index_of(backbone, compressor) -> VideoIndex:
    return index_of_clips(backbone, compressor, clips(), RATIOS)


def fitting(backbone, method: str):
    compressor = registry.build("compressor", method)
    if missing := registry.required(compressor) - backbone.provides:
        pytest.skip(f"needs {', '.join(sorted(missing))}")
    return compressor


@every_backbone
@every_compressor
@torch.no_grad()
def test_every_compressor_works_on_every_backbone(name, method, backbones):
    backbone = backbones(name)
    index = index_of(backbone, fitting(backbone, method))
    geometry = backbone.geometry
    for chunk in index.chunks:
        sizes = [chunk.levels[ratio].num_tokens for ratio in RATIOS]
        assert sizes == sorted(sizes, reverse=True) and sizes[0] <= chunk.num_visual_tokens
        for level in chunk.levels.values():
            kv = level.materialise()
            shape = (geometry.num_layers, geometry.num_kv_heads, level.num_tokens, geometry.head_dim)
            assert kv.keys.shape == kv.values.shape == shape
            assert kv.keys.isfinite().all() and kv.values.isfinite().all() and not kv.rotated
            by_head = (1, 1), shape[:2]  # where each head keeps tokens of its own
            assert kv.positions.shape in {(backbone.num_axes, *each, level.num_tokens) for each in by_head}
            assert kv.positions.max() < chunk.next_position or name == "qwen2_5_vl"  # later in time
    ids = backbone.encode_question(QUESTION)
    for positions in ("contiguous", "original"):
        for plan in (Plan((8, 1, 2)), Plan((2, DROPPED, 8))):
            logits = backbone.logits(ids, assemble(index, plan, backbone, positions))
            assert logits.shape[0] == len(ids) and logits.isfinite().all() and logits.dtype == torch.float32
            cache = assemble(index, plan, backbone, positions)
            tokens = backbone.generate_ids(ids, cache, max_new_tokens=3, eos_token_id=-1)
            assert len(tokens) == 3 and tokens[0] == logits[-1].argmax()


@every_backbone
@torch.no_grad()
def test_decoding_goes_on_where_the_question_ends(name, backbones):
    """With gaps in the positions, several tokens are those of a loop over logits."""
    backbone = backbones(name)
    index = index_of(backbone, registry.build("compressor", "mean_pool"))
    ids, plan = backbone.encode_question(QUESTION), Plan((8, DROPPED, 2))
    cache = assemble(index, plan, backbone, "original")
    tokens = backbone.generate_ids(ids, cache, max_new_tokens=5, eos_token_id=-1)
    cache, said, step = assemble(index, plan, backbone, "original"), [], ids
    for _ in range(5):
        said.append(int(backbone.logits(step, cache)[-1].argmax()))
        step = torch.tensor(said[-1:])
    assert tokens.tolist() == said


@every_backbone
@torch.no_grad()
def test_a_backbone_in_half_precision_keeps_its_kvs_in_it(name, tmp_path):
    if name == "x2l_tiny":
        backbone = registry.build("backbone", {"name": name, "dtype": "bf16"})
    else:
        build(name, tmp_path)
        backbone = registry.build("backbone", {"name": name, "model": str(tmp_path), "dtype": "bf16"})
    index = index_of(backbone, registry.build("compressor", "mean_pool"))
    levels = [level.materialise() for chunk in index.chunks for level in chunk.levels.values()]
    assert {kv.keys.dtype for kv in levels} == {kv.values.dtype for kv in levels} == {torch.bfloat16}
    cache = assemble(index, Plan((8, 1, 2)), backbone, "original")
    assert backbone.logits(backbone.encode_question(QUESTION), cache).isfinite().all()


@dataclass
class FirstTokens(Constant):
    """Puts one token of each chunk into the cache."""

    def refine(self, levels, plan, question, index, backbone):
        return [kv.part(slice(0, 1)) for kv in levels]


@every_backbone
@torch.no_grad()
def test_options_are_compared_behind_an_open_bracket(name, backbones):
    backbone = backbones(name)
    parts = [registry.build("compressor", "mean_pool"), registry.build("oracle", "annotated")]
    pipeline = Pipeline(
        backbone, *parts, registry.build("selector", {"name": "constant", "ratio": 2}), RATIOS
    )
    index = index_of(backbone, parts[0])
    first = [backbone.encode_text(letter)[:1] for letter in "AB"]
    if first[0].equal(first[1]) or backbone.unknown_words("A B"):
        with pytest.raises(X2LError, match="cannot tell the letters of options apart"):
            pipeline.choose(index, QUESTION)
        return
    answer = pipeline.choose(index, QUESTION)
    ids = torch.cat([backbone.encode_question(QUESTION), backbone.encode_text("(")])
    logits = backbone.logits(ids, assemble(index, Plan((2, 2, 2)), backbone))[-1]
    best = int(logits[torch.cat(first)].argmax())
    assert answer.text == ["(A) one", "(B) two"][best]
    assert torch.tensor(answer.option_scores).exp().sum().item() == pytest.approx(1)
    refined = replace(pipeline, selector=FirstTokens(2)).choose(index, QUESTION)
    assert refined.kv_tokens == len(index.chunks) < answer.kv_tokens


@every_backbone
@torch.no_grad()
def test_a_reloaded_index_is_asked_bit_for_bit_the_same(name, backbones, tmp_path):
    backbone = backbones(name)
    index = index_of(backbone, registry.build("compressor", "mean_pool"))
    store.save(index, tmp_path / "index")
    ids, plan = backbone.encode_question(QUESTION), Plan((8, 1, 2))
    fresh, again = (
        backbone.logits(ids, assemble(one, plan, backbone, "original"))
        for one in (index, store.load(tmp_path / "index"))
    )
    assert fresh.equal(again)


@every_backbone
@torch.no_grad()
def test_attention_is_reported_or_not_promised(name, backbones):
    backbone = backbones(name)
    if "attention" not in backbone.provides:
        pytest.skip("does not promise it")
    index = index_of(backbone, registry.build("compressor", "mean_pool"))
    cache = assemble(index, Plan((8, 8, 8)), backbone)
    cached = cache.get_seq_length()
    weights = backbone.attention(backbone.encode_question(QUESTION), cache)
    assert weights.shape[0] == backbone.geometry.num_layers and weights.shape[2] == cached
    assert (weights >= 0).all() and (weights.sum(-1) <= 1).all() and (weights.sum(-1) > 0).all()


@every_backbone
@torch.no_grad()
def test_text_is_streamed_as_it_is_written(name, backbones):
    backbone = backbones(name)
    index = index_of(backbone, registry.build("compressor", "mean_pool"))
    pieces, ids = [], backbone.encode_question(QUESTION)
    text = backbone.generate(
        ids,
        assemble(index, Plan((1, 1, 1)), backbone),
        streamer=backbone.streamer(pieces.append),
        max_new_tokens=8,
        eos_token_id=-1,
    )
    assert "".join(pieces).strip() == text


@torch.no_grad()
def test_a_block_sees_the_blocks_right_before_it_and_every_time_stamp():
    """Of three groups with blocks of one and one look-back: the third does not see the first's pictures."""
    backbone = tiny_video_xl_2()
    seen, blind = (backbone.read(0, whole_clip(changed), 14) for changed in (False, True))
    prefix = backbone.begin()
    memory = backbone.extend(None, prefix)
    one, other = (backbone.prefill(chunk, memory) for chunk in (seen, blind))
    per_group = seen.visual_tokens.shape[0] // 3
    assert not one.values[:, :, :per_group].equal(other.values[:, :, :per_group])
    third, is_text = slice(2 * per_group, None), seen.is_text[2 * per_group :]
    values = [kv.values[:, :, third] for kv in (one, other)]
    # Layer 1 hears of the first group through the second; layer 0 of keys and values is before attention.
    assert not values[0][1][:, is_text].equal(values[1][1][:, is_text])
    assert values[0][1][:, ~is_text].allclose(values[1][1][:, ~is_text], atol=1e-6)


def whole_clip(changed: bool) -> Clip:
    frames = np.random.default_rng(0).integers(0, 256, (12, 40, 48, 3), dtype=np.uint8)
    if changed:
        frames[:4] = 255 - frames[:4]
    return Clip(frames, np.arange(12.0))


@pytest.mark.parametrize("splits", [True, False])
@torch.no_grad()
def test_sparse_pre_fill_is_the_dense_one_where_everything_is_near(splits, monkeypatch):
    """With as much look-back as there are blocks, it is plain causal attention."""
    monkeypatch.setattr(sparse_prefill, "can_split", lambda device: splits)
    sparse, plain = tiny_video_xl_2(), tiny_video_xl_2()
    sparse.previous_blocks = 99
    chunk = sparse.read(0, whole_clip(False), 14)
    prefix = sparse.begin()
    kv = sparse.prefill(chunk, sparse.extend(None, prefix))
    embeds = torch.cat((plain.embed_text(SYSTEM), chunk.visual_tokens))[None]
    cache = plain.decoder(inputs_embeds=embeds, use_cache=True).past_key_values
    values = torch.stack([layer.values[0] for layer in cache.layers])
    torch.testing.assert_close(torch.cat((prefix.values, kv.values), dim=2), values, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_blocks_need_whole_chunks_in_memory():
    backbone = tiny_video_xl_2()
    compressor = registry.build("compressor", {"name": "mean_pool", "memory": "compressed"})
    with pytest.raises(X2LError, match=r"compressor\.memory: expected full"):
        index_of(backbone, compressor)


@every_backbone
@torch.no_grad()
def test_every_way_of_asking_weighs_alike(name, backbones):
    """Alone, among others, by letters, and by the oracle that asks the model."""
    backbone, compressor = backbones(name), registry.build("compressor", "mean_pool")
    oracle = registry.build("oracle", "llm_attention" if "attention" in backbone.provides else "annotated")
    selector = registry.build("selector", {"name": "top_k", "k": 1})
    off = Pipeline(backbone, compressor, oracle, selector, (1, 8))
    on, index = replace(off, proportional=Proportional(1.0)), index_of(backbone, compressor)
    alone = on.ask(index, QUESTION, max_new_tokens=3)
    (together,) = on.ask_many(index, [QUESTION], max_new_tokens=3)
    assert (alone.text, alone.plan) == (together.text, together.plan)
    caches = [pipeline.cache(index, alone.plan, QUESTION) for pipeline in (on, off)]
    assert caches[0].bias.max() > 1 and caches[1].bias is None
    ids = backbone.encode_question(QUESTION)
    weighed, plain = (p.backbone.logits(ids, cache) for p, cache in zip((on, off), caches, strict=True))
    assert (weighed - plain).abs().max() > 1e-4
    cache = on.cache(index, alone.plan, QUESTION)
    steps = torch.cat([on.backbone.logits(token[None], cache) for token in ids])
    torch.testing.assert_close(steps, weighed, atol=1e-4, rtol=1e-4)
