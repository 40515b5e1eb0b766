"""transformers' own video models behind x2l's interface: the same pixels, prompts, logits and tokens."""

import json
from dataclasses import replace

import pytest
import torch
from models import index_of_clips, read
from safetensors.torch import load_file
from stock_models import (
    ANSWERED,
    FAMILIES,
    FOLDER,
    MAX_VIDEO_TOKENS,
    QUESTION,
    checkpoint,
    clips,
    read_and_seen,
    stock_backbone,
    video,
)

from x2l import registry
from x2l.cache import assemble
from x2l.compressors.identity import Identity
from x2l.compressors.mean_pool import MeanPool
from x2l.types import DROPPED, Plan, VideoIndex, X2LError

LATER = replace(QUESTION, history=((QUESTION.text, ANSWERED),))
PIXELS = ("pixel_values_videos", "pixel_values")

families = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Each family once, through the path that a user takes: saved as a checkpoint and loaded by name."""
    made = {}

    def backbone(name):
        if name not in made:
            made[name] = stock_backbone(name, tmp_path_factory.mktemp(name))
        return made[name]

    return backbone


def stock_inputs(name: str, longer: bool = False) -> dict[str, torch.Tensor]:
    """What the stock processor made of the video and the question, with an earlier turn or without."""
    stored = load_file(FOLDER / name / "inputs.safetensors")
    text = {key.removeprefix("longer."): value for key, value in stored.items() if key.startswith("longer.")}
    whole = {key: value for key, value in stored.items() if not key.startswith("longer.")}
    return whole | text if longer else whole


def with_settings(backbone, settings: dict):
    """The same model behind another setting of its processor."""
    return type(backbone)(backbone.model, backbone.tokenizer, backbone.settings | settings, "other settings")


def index_of(backbone, compressor=None, frames_per_chunk=2, ratios=(1, 4)) -> VideoIndex:
    return index_of_clips(backbone, compressor or Identity(), clips(frames_per_chunk), ratios)


def chunks_of(backbone, position: int, frames_per_chunk: int = 2):
    return read(backbone, clips(frames_per_chunk), position)


def close(actual, expected):
    """The law's own tolerance: 1e-5 of the largest logit, or of 1."""
    assert (actual - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@families
@pytest.mark.parametrize("longer", [False, True], ids=["one turn", "two turns"])
@pytest.mark.parametrize("frames_per_chunk", [2, 4, 6])
@torch.no_grad()
def test_identity_with_original_positions_is_the_stock_model(name, longer, frames_per_chunk, backbones):
    backbone, inputs = backbones(name), stock_inputs(name, longer)
    question = backbone.encode_question(LATER if longer else QUESTION)
    assert question.tolist() == inputs["input_ids"][0, -len(question) :].tolist()
    expected = backbone.model(**inputs).logits[0, -len(question) :]
    index = index_of(backbone, frames_per_chunk=frames_per_chunk)
    for plan in (Plan((1,) * len(index.chunks)), Plan((4,) * len(index.chunks))):
        cache = assemble(index, plan, backbone, "original")
        assert cache.get_seq_length() + len(question) == inputs["input_ids"].shape[1]
        close(backbone.logits(question, cache), expected)


@families
@torch.no_grad()
def test_what_a_compressor_observes_is_the_stock_models_attention(name, backbones):
    """Weights of the last chunk, of every layer, against one eager pass of the stock model."""
    backbone, inputs = backbones(name), stock_inputs(name)
    prefix, *kvs = [backbone.begin(clips(2)[0].video)]
    memory = backbone.extend(None, prefix)
    for chunk in chunks_of(backbone, prefix.num_tokens):
        kv, observed = backbone.prefill_observed(chunk, memory, {"attention"})
        memory = backbone.extend(memory, kv)
        kvs.append(kv)
    end = prefix.num_tokens + sum(kv.num_tokens for kv in kvs)
    rows, columns = slice(end - 3, end), slice(end - kvs[-1].num_tokens, end)
    backbone.decoder.set_attn_implementation("eager")
    expected = backbone.model(**inputs, output_attentions=True).attentions
    backbone.decoder.set_attn_implementation("sdpa")
    close(observed.attend(3), torch.cat(expected)[..., rows, columns])


@pytest.mark.parametrize("name", MAX_VIDEO_TOKENS)
@pytest.mark.parametrize(("case", "num_frames"), [("odd", 5), ("capped", 6)])
@torch.no_grad()
def test_qwen_with_an_odd_number_of_frames_or_capped_ones_is_the_stock_model(
    name, case, num_frames, backbones
):
    backbone, inputs = backbones(name), load_file(FOLDER / name / f"{case}.safetensors")
    if case == "capped":
        cap = {"cap_pixels_per_frame": True, "max_video_tokens": MAX_VIDEO_TOKENS[name]}
        backbone = with_settings(backbone, cap)
    question = backbone.encode_question(QUESTION)
    expected = backbone.model(**inputs).logits[0, -len(question) :]
    for frames_per_chunk in (2, 4):
        index = index_of_clips(backbone, Identity(), clips(frames_per_chunk, num_frames), (1,))
        cache = assemble(index, Plan((1,) * len(index.chunks)), backbone, "original")
        assert cache.get_seq_length() + len(question) == inputs["input_ids"].shape[1]
        close(backbone.logits(question, cache), expected)


@families
@torch.no_grad()
def test_identity_generates_the_tokens_of_the_stock_model(name, backbones, monkeypatch):
    backbone, inputs = backbones(name), stock_inputs(name)
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": -1}
    backbone.model.model.rope_deltas = None
    expected = backbone.model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :]
    # Some checkpoints ship one; it could not look at the video here.
    monkeypatch.setattr(backbone.model.generation_config, "repetition_penalty", 9.0)
    index = index_of(backbone)
    cache = assemble(index, Plan((1,) * len(index.chunks)), backbone, "original")
    assert backbone.generate_ids(backbone.encode_question(QUESTION), cache, **options).equal(expected)


@families
@torch.no_grad()
def test_pixels_are_those_of_the_stock_processor(name, backbones):
    backbone, inputs = backbones(name), stock_inputs(name)
    expected = next(inputs[key] for key in PIXELS if key in inputs)
    _, seen = read_and_seen(backbone, video())
    torch.testing.assert_close(seen.flatten(), expected.flatten(), atol=1e-5, rtol=0)


@families
@torch.no_grad()
def test_tokens_do_not_depend_on_how_the_video_is_cut(name, backbones):
    backbone = backbones(name)
    start = backbone.begin(video().video).num_tokens
    whole, *_ = chunks_of(backbone, start, 6)
    parts = list(chunks_of(backbone, start, 2))
    torch.testing.assert_close(torch.cat([part.visual_tokens for part in parts]), whole.visual_tokens)
    assert torch.cat([part.positions for part in parts], dim=1).equal(whole.positions)
    assert parts[-1].next_position == whole.next_position
    if whole.is_text is not None:
        assert torch.cat([part.is_text for part in parts]).equal(whole.is_text)
    if whole.deepstack is not None:
        torch.testing.assert_close(torch.cat([part.deepstack for part in parts], dim=1), whole.deepstack)
    assert whole.tokens_by_step().flatten(0, 1).equal(backbone.embed(video().frames, video().times_s))


@families
@torch.no_grad()
def test_text_between_frames_is_kept_and_frames_are_pooled(name, backbones):
    backbone = backbones(name)
    index = index_of(backbone, MeanPool(), ratios=(1, 4, 1000))
    chunk = next(chunks_of(backbone, index.prefix.num_tokens))
    num_text = 0 if chunk.is_text is None else int(chunk.is_text.sum())
    num_runs = 1 if chunk.is_text is None else chunk.num_steps
    num_visual = len(chunk.visual_tokens) - num_text
    sizes = {ratio: level.num_tokens - num_text for ratio, level in index.chunks[0].levels.items()}
    assert sizes == {1: num_visual, 4: num_runs * -(-num_visual // num_runs // 4), 1000: num_runs}
    if num_text:
        full, pooled = (index.chunks[0].levels[ratio] for ratio in (1, 1000))
        first = slice(0, int(chunk.is_text.int().argmin()))
        assert first.stop > 0 and pooled.part(first).keys.equal(full.part(first).keys)


@families
@pytest.mark.parametrize("memory", ["full", "compressed"])
@torch.no_grad()
def test_what_later_chunks_see_is_an_option(name, memory, backbones):
    full, other = (index_of(backbones(name), MeanPool(memory=m), ratios=(4,)) for m in ("full", memory))
    same = [
        a.levels[4].values.equal(b.levels[4].values) for a, b in zip(full.chunks, other.chunks, strict=True)
    ]
    assert same == ([True] * 3 if memory == "full" else [True, False, False])


@families
@torch.no_grad()
def test_contiguous_positions_are_counted_from_0(name, backbones):
    """A hybrid memory is one that the model could have seen: the same keys at 0, 1, 2, ..."""
    backbone = backbones(name)
    index = index_of(backbone, MeanPool())
    cache = assemble(index, Plan((4, 1, DROPPED)), backbone)
    kept = [index.prefix, index.chunks[0].levels[4], index.chunks[1].levels[1]]
    start = 0
    for kv in kept:
        where = torch.arange(start, start + kv.num_tokens).expand(backbone.num_axes, 1, 1, -1)
        expected = backbone.rotate(kv.keys, where)
        for layer, keys in zip(cache.layers, expected, strict=True):
            torch.testing.assert_close(layer.keys[0, :, start : start + kv.num_tokens], keys)
        start += kv.num_tokens
    assert cache.position_shift == 0


@families
@torch.no_grad()
def test_original_positions_keep_their_gaps(name, backbones):
    backbone = backbones(name)
    index = index_of(backbone, MeanPool())
    whole, gap = (assemble(index, Plan(plan), backbone, "original") for plan in ((1, 1, 1), (1, DROPPED, 1)))
    last = index.chunks[2].levels[1].num_tokens
    for one, other in zip(whole.layers, gap.layers, strict=True):
        stop = -1 if name == "llava_onevision" else None  # its new line depends on what is in front of it
        part = slice(-last - (stop is not None), stop)
        assert one.keys[:, :, part].equal(other.keys[:, :, part])
    missing = index.chunks[1].levels[1].num_tokens
    assert gap.position_shift == whole.position_shift + missing


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_pairs_of_frames_need_chunks_of_pairs(name, backbones):
    with pytest.raises(X2LError, match="chunk_frames: expected a multiple of 2 for this backbone, got 3"):
        backbones(name).read(0, clips(3)[0], 0)
    odd = backbones(name).read(0, clips(5, num_frames=5)[0], 0)
    assert odd.num_steps == 3


def test_frames_can_be_made_smaller(tmp_path):
    small = stock_backbone("qwen2_5_vl", tmp_path, max_pixels=256)
    grid = small.patches(video())[1]
    assert grid[1] * grid[2] * 16 <= 256
    assert "max_pixels 256" in small.identity
    with pytest.raises(X2LError, match=r"backbone.max_pixels: expected at least 1, got 0"):
        registry.build("backbone", {"name": "qwen2_5_vl", "model": str(tmp_path), "max_pixels": 0})


def test_a_checkpoint_of_another_family_is_named(tmp_path):
    folder = checkpoint("qwen2_5_vl", tmp_path)
    with pytest.raises(X2LError, match="its type is qwen2_5_vl, expected internvl"):
        registry.build("backbone", {"name": "internvl", "model": str(folder)})


def test_a_template_without_a_place_for_the_video_is_named(tmp_path):
    folder = checkpoint("internvl", tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'][1]['text'] }}")
    backbone = registry.build("backbone", {"name": "internvl", "model": str(folder)})
    with pytest.raises(X2LError, match="its chat template puts no <video> where the video stands"):
        backbone.begin()


@families
def test_processor_settings_that_are_incomplete_are_named(name, tmp_path):
    folder = checkpoint(name, tmp_path)
    path = folder / "processor_config.json"
    whole = json.loads(path.read_text())
    whole["video_processor"]["size"] = {"depth": 1}
    path.write_text(json.dumps(whole))
    with pytest.raises(X2LError, match=r"the settings of its video processor lack .*size\."):
        registry.build("backbone", {"name": name, "model": str(folder)})


@pytest.mark.parametrize("limit", ["longest_edge", "shortest_edge", "max_pixels_per_frame", "none"])
def test_a_single_frame_of_qwen3_vl_is_as_large_as_one_of_two(backbones, limit):
    """Also where the budget makes both smaller or larger: noise is 26 x 35 pixels."""
    backbone = backbones("qwen3_vl")
    size = {"longest_edge": 1200, "shortest_edge": 64}
    limits = {
        "longest_edge": {"size": size},
        "shortest_edge": {"size": {"longest_edge": 9000, "shortest_edge": 4000}},
        "max_pixels_per_frame": {"max_pixels_per_frame": 500},
        "none": {},
    }
    backbone = with_settings(backbone, limits[limit])
    sizes = [backbone.patches(video(number))[1] for number in (1, 2)]
    assert sizes[0] == sizes[1]
    assert limit == "none" or sizes[1] != backbones("qwen3_vl").patches(video(2))[1]


def test_an_older_checkpoint_keeps_its_template_and_settings_elsewhere(tmp_path):
    """Before transformers 5: chat_template.json, preprocessor_config.json, and limits by other names."""
    new = stock_backbone("qwen2_5_vl", tmp_path)
    settings = json.loads((tmp_path / "processor_config.json").read_text())["video_processor"]
    size = settings.pop("size")
    settings |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    template = (tmp_path / "chat_template.jinja").read_text()
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    for name in ("processor_config.json", "chat_template.jinja"):
        (tmp_path / name).unlink()
    old = registry.build("backbone", {"name": "qwen2_5_vl", "model": str(tmp_path)})
    assert old.encode_question(QUESTION).equal(new.encode_question(QUESTION))
    assert old.patches(video())[0].equal(new.patches(video())[0])


@pytest.mark.parametrize("missing", ["tokenizer.json", "model.safetensors", "config.json"])
def test_an_incomplete_checkpoint_is_one_line(missing, tmp_path):
    folder = checkpoint("smolvlm", tmp_path)
    (folder / missing).unlink()
    with pytest.raises(X2LError, match=r"backbone.model: .* cannot be loaded, ") as caught:
        registry.build("backbone", {"name": "smolvlm", "model": str(folder)})
    assert "\n" not in str(caught.value)
