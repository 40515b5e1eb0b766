"""The laws of the engine, on random weights: it is plain Qwen2 where nothing is compressed."""

from dataclasses import replace
from itertools import product
from shutil import which

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from models import QUESTION, TINY, chunks, encoded, index_of, read_chunks, tiny_backbone
from peft import LoraConfig, get_peft_model
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from x2l.backbones.video_xl import SYSTEM_PROMPT, VideoXL
from x2l.cache import assemble, next_position, planned_levels
from x2l.compressors.identity import Identity
from x2l.compressors.vst import VST, place_vsts
from x2l.types import DROPPED, KV, Chunk, Plan, X2LError

RATIOS = (2, 8)


@pytest.fixture(scope="module")
def source(backbone):
    return chunks(backbone, num_chunks=3, ragged=True)


def stock_qwen2(backbone: VideoXL) -> Qwen2ForCausalLM:
    """transformers' own model with the weights that it shares with the engine."""
    sizes = {name: value for name, value in TINY.items() if name != "vision_config"}
    config = backbone.model.config
    sizes |= {"vocab_size": config.vocab_size, "num_key_value_heads": config.num_key_value_heads}
    stock = Qwen2ForCausalLM(Qwen2Config(**sizes)).eval()
    weights = backbone.model.state_dict()
    stock.load_state_dict({name: weights[name] for name in stock.state_dict()})
    return stock


def close(actual, expected):
    """The law's own tolerance: 1e-5 of the largest logit, or of 1."""
    assert (actual - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize("positions", ["contiguous", "original"])
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@torch.no_grad()
def test_identity_and_any_plan_that_drops_nothing_is_the_plain_model(num_kv_heads, positions):
    backbone = tiny_backbone(num_key_value_heads=num_kv_heads)
    source = read_chunks(backbone, ragged=True)
    index = index_of(backbone, Identity(), source, RATIOS)
    question = backbone.encode_question(QUESTION)
    stock = stock_qwen2(backbone)
    parts = [backbone.embed_text(SYSTEM_PROMPT), *(chunk.visual_tokens for chunk in source)]
    embeds = torch.cat([*parts, backbone.embed_ids(question)])[None]
    expected = stock(inputs_embeds=embeds).logits[0, -len(question) :]
    expected_tokens = stock.generate(
        inputs_embeds=embeds,
        attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
        max_new_tokens=8,
        do_sample=False,
    )[0]
    for ratios in product(RATIOS, repeat=3):
        caches = [assemble(index, Plan(ratios), backbone, positions) for _ in range(2)]
        close(backbone.logits(question, caches[0]), expected)
        tokens = backbone.generate_ids(question, caches[1], max_new_tokens=8)
        assert tokens.tolist() == expected_tokens.tolist()


@torch.no_grad()
def test_original_positions_are_those_of_the_uncompressed_sequence(backbone):
    """A VST stands where the last raw token in front of it does, and the question behind the whole video."""
    source = read_chunks(backbone)
    index = index_of(backbone, VST(edge_ratio=None), source, RATIOS)
    plan = Plan((8, DROPPED, 2))
    cache = assemble(index, plan, backbone, "original")
    start = backbone.begin().num_tokens
    kept = [start + 7, start + 15, *range(start + 41, start + 60, 2)]
    assert torch.cat([kv.positions for kv in planned_levels(index, plan)], dim=-1).flatten().tolist() == kept
    assert next_position(cache) == start + 60
    stored = torch.cat([index.prefix.keys, *(kv.keys for kv in planned_levels(index, plan))], dim=-2)
    expected = backbone.rotate(stored, torch.tensor([*range(start), *kept]).view(1, 1, 1, -1))
    for layer, keys in zip(cache.layers, expected, strict=True):
        torch.testing.assert_close(layer.keys[0], keys)


@torch.no_grad()
def test_a_question_stands_behind_original_positions(backbone):
    """Keys and question moved by one distance give the same logits: only differences matter."""
    index = index_of(backbone, VST(), read_chunks(backbone), RATIOS)
    question, plan = backbone.encode_question(QUESTION), Plan((DROPPED, DROPPED, DROPPED))
    near = assemble(index, plan, backbone)
    far = assemble(replace(index, prefix=moved(index.prefix, 60)), plan, backbone, "original")
    assert next_position(far) == next_position(near) + 60
    torch.testing.assert_close(
        backbone.logits(question, far), backbone.logits(question, near), atol=1e-4, rtol=1e-4
    )


def moved(kv: KV, distance: int) -> KV:
    return replace(kv, positions=kv.positions + distance)


@torch.no_grad()
def test_original_positions_need_chunks_that_know_theirs(backbone, source):
    index = index_of(backbone, VST(), source, RATIOS)
    with pytest.raises(X2LError, match="positions: 'original' needs an index that knows them"):
        assemble(index, Plan((8, 2, 8)), backbone, "original")


@torch.no_grad()
def test_dropping_a_chunk_leaves_it_out_of_the_values(backbone, source):
    index = index_of(backbone, VST(), source, RATIOS)
    whole, without = (assemble(index, Plan((8, middle, 8)), backbone) for middle in (2, DROPPED))
    start = index.prefix.num_tokens + index.chunks[0].levels[8].num_tokens
    stop = start + index.chunks[1].levels[2].num_tokens
    for one, other in zip(whole.layers, without.layers, strict=True):
        kept = torch.cat((one.values[:, :, :start], one.values[:, :, stop:]), dim=2)
        assert torch.equal(kept, other.values)


@torch.no_grad()
def test_contiguous_positions_count_the_assembled_tokens(backbone, source):
    """Chunk 2 alone behind the prefix has the keys it would have if it had been the first."""
    index = index_of(backbone, VST(), source, RATIOS)
    cache = assemble(index, Plan((DROPPED, DROPPED, 2)), backbone)
    kv = index.chunks[2].levels[2]
    start = index.prefix.num_tokens
    expected = backbone.rotate(kv.keys, torch.arange(start, start + kv.num_tokens).view(1, 1, 1, -1))
    for layer, keys in zip(cache.layers, expected, strict=True):
        torch.testing.assert_close(layer.keys[0, :, start:], keys)


def test_plans_that_do_not_fit_are_refused(backbone, source):
    index = index_of(backbone, Identity(), source, RATIOS)
    with pytest.raises(X2LError, match="plan: 2 ratios for an index of 3 chunks"):
        assemble(index, Plan((2, 2)), backbone)
    with pytest.raises(X2LError, match=r"plan: ratio 4 is not in the index, which has \[2, 8\]"):
        assemble(index, Plan((2, 4, 8)), backbone)


@torch.no_grad()
def test_text_logits_are_bitwise_those_of_stock_qwen2(backbone):
    ids = backbone.encode_question(QUESTION)
    expected = stock_qwen2(backbone)(input_ids=ids[None]).logits[0]
    assert torch.equal(backbone.logits(ids, DynamicCache()), expected)


@torch.no_grad()
def test_identity_does_not_depend_on_how_the_video_is_cut(backbone):
    """Pre-fill in chunks is one causal pass over the video."""
    cuts = [chunks(backbone, num_chunks, 12 // num_chunks) for num_chunks in (1, 3, 4)]
    whole, *others = (joined(encoded(backbone, Identity(), cut, (1,)), 1) for cut in cuts)
    for other in others:
        torch.testing.assert_close(other.keys, whole.keys, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(other.values, whole.values, atol=1e-4, rtol=1e-4)
        assert torch.equal(other.positions, whole.positions)


def joined(chunk_kvs, ratio) -> KV:
    kvs = [chunk.levels[ratio] for chunk in chunk_kvs]
    parts = ((kv.keys, kv.values) for kv in kvs)
    keys, values = (torch.cat(part, dim=-2) for part in zip(*parts, strict=True))
    return KV(keys, values, torch.cat([kv.positions for kv in kvs], dim=-1))


@pytest.mark.parametrize("with_vsts", [False, True], ids=["raw", "vst"])
@torch.no_grad()
def test_a_batch_is_pre_filled_as_its_rows_are(backbone, with_vsts):
    def step(tokens, memory):
        chunk = Chunk(0, np.arange(3.0), tokens)
        if with_vsts:
            return backbone.prefill_vst(chunk, memory, torch.tensor([3, 7, 12]))
        return backbone.prefill(chunk, memory)

    def two_steps(tokens):
        memory = backbone.extend(None, backbone.begin())
        for part in tokens.split(12, dim=-2):
            kv = step(part, memory)
            memory = backbone.extend(memory, kv)
        return memory, kv

    rows = torch.randn(3, 24, 64)
    batch, batch_kv = two_steps(rows)
    for i, row in enumerate(rows):
        alone, kv = two_steps(row)
        torch.testing.assert_close(batch.keys[i], alone.keys, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(batch.values[i], alone.values, atol=1e-5, rtol=1e-5)
        assert torch.equal(batch_kv.positions, kv.positions)


NEEDS_COMPILER = pytest.mark.skipif(
    not which("g++"), reason="flex attention is compiled, and there is no g++"
)


@pytest.mark.parametrize("implementation", ["eager", pytest.param("flex_attention", marks=NEEDS_COMPILER)])
@torch.no_grad()
def test_attention_implementations_agree(source, implementation):
    reference, other = tiny_backbone(), tiny_backbone()
    other.model.set_attn_implementation(implementation)
    question = reference.encode_question(QUESTION)
    logits = []
    for backbone in (reference, other):
        index = index_of(backbone, VST(edge_ratio=None), source[:2], (4,))
        logits.append(backbone.logits(question, assemble(index, Plan((4, 4)), backbone)))
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_attention_weights_are_reported_and_leave_the_implementation_alone(backbone, source):
    index = index_of(backbone, VST(), source, RATIOS)
    cache = assemble(index, Plan((8, 8, 8)), backbone)
    num_cached, implementation = cache.get_seq_length(), backbone.model.config._attn_implementation
    weights = backbone.attention(backbone.encode_question(QUESTION), cache)
    assert weights.shape == (3, 4, num_cached)
    assert (weights >= 0).all() and (weights.sum(-1) < 1).all() and (weights.sum(-1) > 0).all()
    assert backbone.model.config._attn_implementation == implementation != "eager"


@torch.no_grad()
def test_a_saved_checkpoint_is_the_same_backbone(backbone, source, tmp_path):
    backbone.model.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    loaded = VideoXL.from_pretrained(str(tmp_path))
    index, again = (index_of(one, VST(), source, RATIOS) for one in (backbone, loaded))
    for one, other in zip(index.chunks, again.chunks, strict=True):
        assert torch.equal(one.levels[8].keys, other.levels[8].keys)
    seen = source[0].frames, source[0].times_s
    assert torch.equal(loaded.embed(*seen), backbone.embed(*seen))
    assert loaded.encode_question(QUESTION).tolist() == backbone.encode_question(QUESTION).tolist()


def loss_through_compression(backbone, source) -> torch.Tensor:
    """Cross entropy of the question behind the hybrid memory, with gradients."""
    index = index_with_gradients(backbone, source)
    ids = backbone.encode_question(QUESTION)
    logits = backbone.logits(ids, assemble(index, Plan((8, 2, 8)), backbone))
    return torch.nn.functional.cross_entropy(logits[:-1], ids[1:])


def index_with_gradients(backbone, source):
    index = index_of(backbone, VST(), source, RATIOS)
    prefix = backbone.begin()
    made = tuple(VST().encode(backbone, prefix, source, RATIOS))
    return type(index)(prefix, made, index.spec)


def test_lora_wraps_q_proj_and_trains_through_the_compression(source):
    backbone = tiny_backbone()
    before = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=r"model\.layers\.\d+\..*self_attn\.q_proj", task_type="CAUSAL_LM")
    tuned = get_peft_model(backbone.model, config)
    trained = [name for name, weight in tuned.named_parameters() if weight.requires_grad]
    assert len(trained) == 6 and all(".self_attn.q_proj.lora_" in name for name in trained)
    optimiser = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(6):
        losses.append(loss_through_compression(backbone, source))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0] - 0.05
    after = {name.replace(".base_layer", ""): w for name, w in backbone.model.state_dict().items()}
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_gradients_reach_every_vst_weight(source):
    backbone = tiny_backbone()
    loss_through_compression(backbone, source).backward()
    gradients = {name: p.grad for name, p in backbone.model.named_parameters() if "beacon" in name}
    # A VST's query matters to later layers only, and the last layer of a pre-fill stops at keys and values.
    unused = {f"model.layers.2.self_attn.beacon_q_proj.{part}" for part in ("weight", "bias")}
    assert len(gradients) == 19
    assert {name for name, gradient in gradients.items() if gradient is None} == unused
    assert all(gradients[name].abs().sum() > 0 for name in gradients.keys() - unused)


placements = given(tokens=st.integers(1, 300), ratio=st.integers(1, 48), carry=st.integers(0, 60))


@placements
def test_release_places_vsts_by_the_rule_of_the_released_code(tokens, ratio, carry):
    if carry >= ratio or tokens + carry < ratio:
        with pytest.raises(X2LError, match="'release' is undefined"):
            place_vsts(tokens, ratio, carry, "release")
        return
    after, carried = place_vsts(tokens, ratio, carry, "release")
    rows = after + torch.arange(len(after))
    assert len(after) == (tokens + carry) // ratio
    assert carried == (tokens + carry) % ratio
    assert (rows % (ratio + 1) == (ratio - carry) % (ratio + 1)).all()
    assert after.min() >= 1 and after.max() <= tokens


@placements
def test_reset_is_defined_everywhere_and_keeps_a_vst(tokens, ratio, carry):
    after, carried = place_vsts(tokens, ratio, carry, "reset")
    assert len(after) == max(1, (tokens + carry % ratio) // ratio)
    assert 0 <= carried < ratio
    assert after.min() >= 1 and after.max() <= tokens and (after.diff() == ratio).all()


@placements
def test_both_rules_agree_where_release_is_defined(tokens, ratio, carry):
    assume(carry < ratio <= tokens + carry)
    (one, one_carry), (two, two_carry) = (
        place_vsts(tokens, ratio, carry, rule) for rule in ("release", "reset")
    )
    assert torch.equal(one, two) and one_carry == two_carry


@given(lengths=st.lists(st.integers(16, 60), min_size=1, max_size=8), ratio=st.integers(1, 16))
def test_the_carry_makes_chunks_one_stream(lengths, ratio):
    """Counted over the whole video, a VST stands behind every `ratio`-th token, wherever chunks end."""
    carry, start, seen = 0, 0, []
    for length in lengths:
        after, carry = place_vsts(length, ratio, carry, "release")
        seen += (start + after).tolist()
        start += length
    assert seen == list(range(ratio, start + 1, ratio))
