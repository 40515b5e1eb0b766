"""Training runs through the functions of inference, is the same whenever it is resumed, and learns."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from models import tiny_backbone
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from x2l.backbones.video_xl import VideoXL
from x2l.backbones.x2l_tiny import X2LTiny
from x2l.cache import assemble
from x2l.cli import main
from x2l.compressors.identity import Identity
from x2l.compressors.vst import VST
from x2l.engine.hooks import outputs_of
from x2l.from_scratch.curriculum import Curriculum, Shape, Stage
from x2l.from_scratch.frames import NeedleFrames, labels_of
from x2l.from_scratch.language import (
    LanguageModule,
    batched,
    encode_batch,
    frame_means,
    retrieval_scores,
)
from x2l.from_scratch.needle_batches import NeedleBatches
from x2l.from_scratch.optim import muon_and_adamw, warmup_then_linear_decay
from x2l.from_scratch.packing import IGNORED
from x2l.from_scratch.recipe import TinyRecipe
from x2l.from_scratch.start import start_language_model
from x2l.from_scratch.vision import VisionModule, cells
from x2l.needles.world import BELL, CARD_COLOURS, FRAME_COLOURS, PATTERNS, SHAPES, write_script
from x2l.networks.time_code import time_code
from x2l.oracles.attention import AttentionScore
from x2l.storage.files import alone_in
from x2l.training.loop import read_log, steps_done, train
from x2l.types import Chunk, IndexSpec, Plan, Question, VideoIndex, X2LError

RECIPES = Path(__file__).parents[2] / "recipes"
QUESTIONS = {"detail": 3, "exist": 1, "count": 1}
TOY_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "beacon_param": ["q", "k", "v", "o"],
    "num_hidden_layers": 2,
}


def a_stage(num_steps=4, chunks=(2, 4), frames=(1, 2), ratios=None, tokens=150, **fields) -> Stage:
    ratios = ratios or {"1": 1.0, "2": 1.0, "2/8": 1.0}
    return Stage(num_steps, chunks, frames, ratios, QUESTIONS, tokens, **fields)


def curriculum_of(*stages: Stage, seed: int = 5) -> Curriculum:
    return Curriculum(list(stages or [a_stage()]), seed, tokens_per_frame=4)


@pytest.fixture(scope="module")
def backbone() -> VideoXL:
    return tiny_backbone(beacon_param=["q", "k", "v", "o"])


@pytest.fixture(scope="module")
def module(backbone) -> LanguageModule:
    return LanguageModule(backbone, curriculum_of(), muon_lr=0.01, adamw_lr=0.001, retrieval_weight=0.2)


def batch_with(backbone, ratios: str, seed: int = 5):
    """Two videos or more of 4 chunks, compressed in one way."""
    curriculum = curriculum_of(a_stage(1, (4, 4), (2, 2), {ratios: 1.0}, tokens=300), seed=seed)
    batch = NeedleBatches(curriculum, backbone).batch(0)
    assert batch.shape.num_videos >= 2
    return batch


def index_of_video(backbone, visual_tokens, shape: Shape) -> VideoIndex:
    """As Pipeline.index makes it: one video, unbatched chunks."""
    compressor = Identity() if shape.ratios == (1,) else VST(shape.edge_ratio)
    times_s = np.arange(shape.frames_per_chunk, dtype=float)
    chunks = [Chunk(i, times_s, part) for i, part in enumerate(visual_tokens.chunk(shape.num_chunks))]
    prefix = backbone.begin()
    encoded = tuple(compressor.encode(backbone, prefix, chunks, shape.ratios))
    return VideoIndex(prefix, encoded, IndexSpec("one", backbone.geometry, {}, {}))


# One path for training and inference


@torch.no_grad()
@pytest.mark.parametrize("ratios", ["1", "2", "8", "2/8"])
def test_packed_batched_logits_equal_those_of_each_question_of_each_video(module, backbone, ratios):
    batch = batch_with(backbone, ratios)
    logits, labels, _ = module.answer_logits(batch)
    alone, alone_labels = [], []
    for row, visual_tokens in enumerate(batch.visual_tokens):
        index = index_of_video(backbone, visual_tokens, batch.shape)
        for segment in range(len(batch.kinds[row])):
            mine = batch.packed.segments[row] == segment
            cache = assemble(index, Plan(batch.shape.plan), backbone)
            answers = batch.packed.labels[row][mine] != IGNORED
            alone.append(backbone.logits(batch.packed.ids[row][mine], cache)[answers])
            alone_labels.append(batch.packed.labels[row][mine][answers])
    torch.testing.assert_close(logits, torch.cat(alone), atol=1e-5, rtol=0)
    assert torch.equal(labels, torch.cat(alone_labels))


def test_a_question_may_be_read_before_the_video_is_looked_at(backbone):
    packed = batch_with(backbone, "1").packed
    usual, last = packed.mask(7), packed.mask(7, is_read_last=True)
    assert usual[..., :7].all() and torch.equal(usual[..., 7:], last[..., 7:])
    looks = last[:, 0, :, :7]
    assert torch.equal(looks.all(-1), packed.labels != IGNORED) and torch.equal(looks.all(-1), looks.any(-1))


@torch.no_grad()
@pytest.mark.parametrize("ratios", ["1", "2", "8", "2/8"])
def test_a_batch_is_encoded_as_each_of_its_videos(backbone, ratios):
    batch = batch_with(backbone, ratios)
    together = encode_batch(backbone, batch.visual_tokens, batch.shape)
    for row, visual_tokens in enumerate(batch.visual_tokens):
        one = index_of_video(backbone, visual_tokens, batch.shape)
        for chunk, alone in zip(together.chunks, one.chunks, strict=True):
            assert (chunk.num_visual_tokens, chunk.levels.keys()) == (
                alone.num_visual_tokens,
                alone.levels.keys(),
            )
            for ratio, kv in chunk.levels.items():
                torch.testing.assert_close(kv.keys[row], alone.levels[ratio].keys, atol=1e-5, rtol=0)
                torch.testing.assert_close(kv.values[row], alone.levels[ratio].values, atol=1e-5, rtol=0)
                assert torch.equal(kv.positions, alone.levels[ratio].positions)


def test_the_prefix_is_shared_by_a_batch(backbone):
    prefix = backbone.begin()
    many = batched(prefix, 3)
    assert many.keys.shape == (3, *prefix.keys.shape)
    assert torch.equal(many.keys[2], prefix.keys)


def test_answers_are_what_the_model_says_behind_its_own_template(backbone):
    batch = batch_with(backbone, "2")
    mine = batch.packed.segments[0] == 0
    ids, labels = batch.packed.ids[0][mine], batch.packed.labels[0][mine]
    text = backbone.tokenizer.decode(ids)
    assert text.rstrip().endswith(backbone.tokenizer.decode(labels[labels != IGNORED][:1]))
    assert labels[-1] == backbone.tokenizer.eos_token_id
    question = Question(backbone.tokenizer.decode(batch.retrieval[0][1]))
    assert torch.equal(ids[:-1], backbone.encode_question(question))
    assert batch.packed.positions[0][mine].tolist() == list(range(len(ids)))


def test_the_retrieval_loss_scores_as_the_attention_oracle(module, backbone):
    batch = batch_with(backbone, "2/8")
    oracle, shape = AttentionScore(), batch.shape
    videos, texts, gold = zip(*batch.retrieval, strict=True)
    words = torch.stack([backbone.embed_ids(ids).mean(dim=0) for ids in texts])
    scores = retrieval_scores(frame_means(batch)[list(videos)], words)
    per_frame = batch.visual_tokens.unflatten(1, (shape.num_chunks, shape.frames_per_chunk, -1))
    for row, video in enumerate(videos):
        text = backbone.tokenizer.decode(texts[row])
        assert torch.equal(backbone.encode_text(text), texts[row])
        index = oracle_index(backbone, oracle, per_frame[video])
        expected = oracle.score(Question(text), index, backbone)
        torch.testing.assert_close(scores[row], expected, atol=1e-5, rtol=1e-5)
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor(gold))
    torch.testing.assert_close(module.retrieval_loss(batch), expected)


def test_words_that_name_a_scene_are_told_its_chunk(backbone):
    batch, word = batch_with(backbone, "2"), backbone.tokenizer.convert_ids_to_tokens
    named = (batch.named_chunks != IGNORED).nonzero().tolist()
    chunks = {}
    for video, place in named:
        pattern, colour = word(batch.packed.ids[video, place - 1 : place + 1].tolist())
        assert pattern in PATTERNS and colour in FRAME_COLOURS
        chunk = int(batch.named_chunks[video, place])
        assert chunks.setdefault((video, pattern, colour), chunk) == chunk
    assert len(set(chunks)) == len({(video, chunk) for (video, *_), chunk in chunks.items()})
    for video, ids, gold in batch.retrieval:
        pairs = set(pairwise(word(ids.tolist())))
        (asked,) = (pair for pair in pairs if pair[0] in PATTERNS and pair[1] in FRAME_COLOURS)
        assert chunks[(video, *asked)] == gold


def test_the_time_loss_is_small_where_names_know_their_time(module, backbone):
    batch = batch_with(backbone, "2")
    named = batch.named_chunks != IGNORED
    times_s = module.curriculum.times_s(module.step, batch.shape)
    codes = time_code(torch.from_numpy(times_s), backbone.model.config.hidden_size)
    codes = codes.unflatten(0, (batch.shape.num_chunks, -1)).mean(dim=1)
    hidden = torch.randn(*batch.packed.ids.shape, backbone.model.config.hidden_size)
    guessing = module.time_loss(batch, hidden)
    hidden[named] = 7 * codes[batch.named_chunks[named]]
    knowing = module.time_loss(batch, hidden)
    hidden[named] = 7 * codes[(batch.named_chunks[named] + 1) % batch.shape.num_chunks]
    assert knowing < guessing - 0.1 and knowing < module.time_loss(batch, hidden) - 0.1
    nobody = replace(batch, named_chunks=torch.full_like(batch.named_chunks, IGNORED))
    assert module.time_loss(nobody, hidden) == 0


def test_the_time_loss_hears_the_middle_layer(backbone):
    """A step with the loss alone moves the layers up to the middle one, and none behind it."""
    module = LanguageModule(backbone, curriculum_of(a_stage(4, time_weight=1.0)), 0.01, 0.001)
    backbone.model.zero_grad()
    layers = backbone.model.model.layers
    with outputs_of([layers[len(layers) // 2]]) as (outputs,):
        batch = batch_with(backbone, "1")
        module.answer_logits(batch)
    module.time_loss(batch, outputs[-1]).backward()
    moved = [layer.mlp.up_proj.weight.grad is not None for layer in layers]
    assert moved == [True, True, False]
    backbone.model.zero_grad()


def oracle_index(backbone, oracle, frames) -> VideoIndex:
    """An index that holds nothing but the oracle's features of frames [chunks, frames, tokens, hidden]."""
    index = index_of_video(backbone, frames.flatten(0, 2), Shape(len(frames), frames.shape[1], 1, (1,), None))
    times_s = np.arange(frames.shape[1], dtype=float)
    chunks = tuple(
        replace(
            kv, features={oracle.key: oracle.prepare(Chunk(kv.index, times_s, part.flatten(0, 1)), backbone)}
        )
        for kv, part in zip(index.chunks, frames, strict=True)
    )
    return replace(index, chunks=chunks)


def test_gradients_reach_what_is_trained_and_only_that(backbone):
    module = LanguageModule(backbone, curriculum_of(), 0.01, 0.001)
    backbone.model.zero_grad()
    logits, labels, _ = module.answer_logits(batch_with(backbone, "2/8"))
    torch.nn.functional.cross_entropy(logits, labels).backward()
    first, last = (backbone.model.model.layers[i].self_attn for i in (0, -1))
    for letter in "qkvo":
        assert first.get_submodule(f"beacon_{letter}_proj").weight.grad.abs().max() > 0
        assert first.get_submodule(f"{letter}_proj").weight.grad.abs().max() > 0
    assert last.beacon_k_proj.weight.grad.abs().max() > 0
    # Nobody attends to what the VSTs of the last layer would become.
    assert last.beacon_q_proj.weight.grad is None and last.beacon_o_proj.weight.grad is None
    assert backbone.model.model.beacon_embed_tokens.weight.grad.abs().max() > 0
    assert backbone.model.get_input_embeddings().weight.grad.abs().max() > 0
    for frozen in (backbone.model.model.vision_tower, backbone.model.model.mm_projector):
        assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
    backbone.model.zero_grad()


# Data


def test_shapes_follow_from_seed_and_step():
    stages = a_stage(30, (1, 5), (1, 3)), a_stage(30, (6, 9), (4, 4), {"8": 1.0, "2/32": 3.0}, 400)
    curriculum, again = curriculum_of(*stages), curriculum_of(*stages)
    shapes = [curriculum.shape(step) for step in range(curriculum.num_steps)]
    assert shapes[::-1] == [again.shape(step) for step in reversed(range(again.num_steps))]
    assert shapes != [curriculum_of(*stages, seed=6).shape(step) for step in range(60)]
    assert [curriculum.stage(step) for step in (0, 29, 30, 59)] == [stages[0]] * 2 + [stages[1]] * 2
    for step, shape in enumerate(shapes):
        stage = curriculum.stage(step)
        assert stage.chunks[0] <= shape.num_chunks <= stage.chunks[1]
        assert stage.frames_per_chunk[0] <= shape.frames_per_chunk <= stage.frames_per_chunk[1]
        assert "/".join(map(str, shape.ratios)) in stage.ratios
        assert len(shape.plan) == shape.num_chunks and set(shape.plan) <= set(shape.ratios)
        assert shape.edge_ratio in (None, 2) and (shape.num_chunks > 2 or shape.edge_ratio is None)
        assert bool(shape.detailed) == (len(shape.ratios) > 1)
        assert shape.num_videos >= 1
        num_tokens = shape.num_videos * shape.num_chunks * shape.frames_per_chunk * 4
        assert shape.num_videos == 1 or num_tokens <= stage.tokens_per_step
    assert {shape.edge_ratio for shape in shapes} == {None, 2}
    assert len({shape.ratios for shape in shapes}) == 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_follow_from_seed_and_step_whoever_makes_them(backbone, num_workers):
    data = NeedleBatches(curriculum_of(a_stage(5)), backbone, first_step=1)
    batches = list(DataLoader(data, batch_size=None, num_workers=num_workers))
    assert len(batches) == 4
    for step, batch in enumerate(batches, start=1):
        expected = data.batch(step)
        assert batch.shape == expected.shape == data.curriculum.shape(step)
        assert torch.equal(batch.visual_tokens, expected.visual_tokens)
        assert all(
            torch.equal(part, getattr(expected.packed, name)) for name, part in vars(batch.packed).items()
        )
        assert batch.kinds == expected.kinds


def test_details_are_asked_of_the_chunks_that_are_loaded_in_detail(backbone):
    batch = batch_with(backbone, "2/8")
    assert batch.retrieval and {chunk for *_, chunk in batch.retrieval} <= set(batch.shape.detailed)


def test_a_stage_without_a_possible_question_is_named(backbone):
    stage = Stage(1, (1, 1), (1, 1), {"1": 1.0}, {"before": 2})
    with pytest.raises(X2LError, match="step 0: no question of before fits a video of 1 chunks"):
        NeedleBatches(curriculum_of(stage), backbone).batch(0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_frames_follow_from_seed_and_number(num_workers):
    whole = list(DataLoader(NeedleFrames(32, 8, 3, seed=1), batch_size=None, num_workers=num_workers))
    rest = list(NeedleFrames(32, 8, 3, seed=1, first_batch=1))
    assert len(whole) == 3
    for (pixels, labels), (expected, expected_labels) in zip(whole[1:], rest, strict=True):
        assert torch.equal(pixels, expected)
        assert all(torch.equal(labels[name], expected_labels[name]) for name in labels)


def test_labels_name_what_is_in_each_cell():
    script = write_script(np.random.default_rng(3), num_scenes=3, seconds_per_scene=2)
    for second, cards in enumerate(script.cards):
        labels, scene = labels_of(script, second), script.scenes[second // 2]
        for card in cards:
            assert CARD_COLOURS[labels["colour"][card.cell]] == card.colour
            assert (*SHAPES, BELL)[labels["shape"][card.cell]] == card.shape
            assert labels["digit"][card.cell] == card.digit
        assert (FRAME_COLOURS[labels["frame_colour"]], PATTERNS[labels["pattern"]]) == (
            scene.frame_colour,
            scene.pattern,
        )
        assert labels["night"] == int(scene.night)


def test_tokens_of_a_frame_lie_in_cells_row_by_row():
    assert cells(4).tolist() == [0, 1, 2, 3]
    assert cells(16).view(4, 4).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


# Optimisation


def test_every_trainable_parameter_has_one_optimizer(backbone):
    vision = VisionModule(tiny_backbone().model, 1, 0.01, 0.001)
    seen = [vision.network.model.vision_tower, vision.network.model.mm_projector, vision.heads]
    language = LanguageModule(backbone, curriculum_of(), 0.01, 0.001)
    for module, trained in ((vision, seen), (language, [backbone.model])):
        optimizers = module.configure_optimizers()
        held = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        expected = [p for part in trained for p in part.parameters() if p.requires_grad]
        assert len(held) == len(set(held)) and set(held) == set(expected)
    muon, adamw = (set(o.param_groups[0]["params"]) for o in language.configure_optimizers())
    layer = backbone.model.model.layers[1]
    assert {layer.self_attn.beacon_q_proj.weight, layer.mlp.up_proj.weight} <= muon
    assert {backbone.model.lm_head.weight, layer.self_attn.q_proj.bias} <= adamw


def test_modules_with_equal_names_keep_all_their_parameters():
    pair = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    held = [
        p
        for o in muon_and_adamw([*pair, tiny_backbone().model], 1.0, 1.0)
        for p in o.param_groups[0]["params"]
    ]
    assert {p for linear in pair for p in linear.parameters()} <= set(held)


def test_the_learning_rate_rises_stays_and_falls():
    factors = [warmup_then_linear_decay(step, 1000, warmup=100) for step in range(1001)]
    assert factors[0] == 0.01 and factors[99] == factors[499] == 1.0
    assert np.all(np.diff(factors[:100]) > 0) and np.all(np.diff(factors[500:]) < 0)
    assert factors[1000] == pytest.approx(0.02)
    assert warmup_then_linear_decay(2000, 1000, 100) == 0.02


@torch.no_grad()
def test_vsts_start_as_copies_of_the_token_in_front_of_them():
    """At 2x VSTs alternate with tokens: what leaves the first layer is as large and much like them."""
    backbone = started_backbone(visual_rms=1.5)
    tokens = 1.5 * torch.randn(32, 128)
    copies = vsts_behind_first_layer(backbone, tokens, torch.arange(2, 33, 2))
    likeness = torch.cosine_similarity(copies[:, None], tokens[None], dim=-1)
    nearest = torch.arange(16) * 2 + 1
    assert (likeness.argmax(dim=1) - nearest).abs().max() <= 1
    assert likeness[torch.arange(16), nearest].mean() > 0.6
    assert copies.square().mean().sqrt() == pytest.approx(1.5, rel=0.5)
    later = backbone.model.model.layers[1:]
    assert all(not layer.self_attn.beacon_o_proj.weight.any() for layer in later)


def started_backbone(visual_rms: float) -> VideoXL:
    """A fresh model with heads and a spread of weights like those of the shipped recipe."""
    sizes = {
        "hidden_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "initializer_range": 0.05,
    }
    backbone = tiny_backbone(beacon_param=["q", "k", "v", "o"], rope_theta=1e6, **sizes)
    for name, parameter in backbone.model.named_parameters():
        if name.endswith("_proj.bias"):
            torch.nn.init.zeros_(parameter)
    start_language_model(backbone.model, visual_rms)
    return backbone


def vsts_behind_first_layer(backbone, tokens, after):
    """What the attention of the first layer makes of VSTs, in front of the MLP."""
    outputs = []
    first = backbone.model.model.layers[0].self_attn
    hook = first.register_forward_hook(lambda *call: outputs.append(call[2][0]))
    chunk = Chunk(0, np.arange(1.0), tokens)
    backbone.prefill_vst(chunk, backbone.extend(None, backbone.begin()), after)
    hook.remove()
    rows = after + torch.arange(len(after))
    return outputs[-1][0, rows]


def test_a_model_that_cannot_copy_is_refused():
    for config in ({"beacon_param": ["q", "k", "v"]}, {"beacon_param": ["q", "k", "v", "o"]}):
        with pytest.raises(X2LError, match="beacon_param with o, and as many key-value heads"):
            start_language_model(tiny_backbone(**config).model, visual_rms=1.0)


def test_the_loss_falls_on_one_batch_seen_again(tmp_path):
    """The same questions of the same videos 60 times: they can be learned by heart, through VSTs."""
    backbone = tiny_backbone(**TOY_SIZES)
    curriculum = curriculum_of(a_stage(60, (2, 2), (1, 1), {"2": 1.0}))
    batch = NeedleBatches(curriculum, tiny_backbone(**TOY_SIZES)).batch(0)
    start_language_model(backbone.model, visual_rms=batch.visual_tokens.square().mean().sqrt().item())
    train(LanguageModule(backbone, curriculum, 0.02, 0.01), [batch] * 60, tmp_path)
    losses = [line["loss"] for line in read_log(tmp_path / "log.jsonl")]
    assert len(losses) == 60
    assert losses[0] > 3
    assert np.mean(losses[-5:]) < 0.3


# The whole command


TOY = {
    "seed": 3,
    "precision": "32-true",
    "checkpoint_every": 2,
    "accelerator": "cpu",
    "model": TOY_SIZES
    | {
        "max_position_embeddings": 1024,
        "vision_config": {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
    },
    "vision": {"num_steps": 5, "batch_size": 8, "muon_lr": 0.02, "adamw_lr": 0.002},
    "language": {
        "muon_lr": 0.01,
        "adamw_lr": 0.001,
        "retrieval_weight": 0.2,
        "stages": [
            {
                "num_steps": num_steps,
                "chunks": [2, 3],
                "frames_per_chunk": [1, 2],
                "ratios": {"1": 1, "2": 1, "2/8": 1},
                "questions": QUESTIONS,
                "tokens_per_step": 150,
            }
            for num_steps in (4, 3)
        ],
    },
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "toy.yaml"
    path.write_text(yaml.safe_dump(TOY))
    return path


def run(recipe: Path, out: Path) -> int:
    return main(["fit", str(recipe), "--out", str(out), "--workers", "0"])


@pytest.fixture(scope="module")
def unbroken(recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    assert run(recipe, out) == 0
    return out


class Killed(BaseException):
    """As sudden as a signal: nothing in between handles it."""


def killed_at(monkeypatch, dataset: type, method: str, number: int):
    """The run dies when it asks for data behind its `number`-th step."""
    made, whole = [], getattr(dataset, method)

    def make(*args):
        made.append(args)
        if len(made) > number:
            raise Killed
        return whole(*args)

    monkeypatch.setattr(dataset, method, make)


def test_a_run_leaves_two_stages_and_a_release(unbroken):
    for stage, num_steps in (("vision", 5), ("language", 7)):
        assert [line["step"] for line in read_log(unbroken / stage / "log.jsonl")] == [
            *range(1, num_steps + 1)
        ]
        assert steps_done(unbroken / stage) == num_steps - 1
        VideoXL.from_pretrained(str(unbroken / stage))
    assert not list(unbroken.rglob("*partial*"))


def test_the_release_is_the_language_stage_in_fp16(unbroken):
    released, trained = (
        load_file(unbroken / name / "model.safetensors") for name in ("x2l_tiny", "language")
    )
    assert released.keys() == trained.keys()
    assert all(torch.equal(released[name], trained[name].half()) for name in trained)
    backbone = X2LTiny.from_pretrained(str(unbroken / "x2l_tiny"))
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert backbone.embed(frames, np.arange(3.0)).dtype == torch.float32
    assert (
        backbone.encode_text("How many bells?").tolist()
        == tiny_backbone().encode_text("How many bells?").tolist()
    )
    assert backbone.geometry.num_layers == 2


def test_training_changes_the_language_model_but_not_the_tower(unbroken):
    before, after = (load_file(unbroken / name / "model.safetensors") for name in ("vision", "language"))
    frozen = {name for name in before if "vision_tower" in name or "mm_projector" in name}
    matrices = {name for name in before.keys() - frozen if before[name].ndim == 2}
    assert len(frozen) > 10 and len(matrices) > 20
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not any(torch.equal(before[name], after[name]) for name in matrices)


@pytest.mark.parametrize(
    ("stage", "dataset", "method", "number"),
    [
        ("vision", NeedleFrames, "_batch", 3),
        # One batch more is made at the start, to see how large visual tokens are.
        ("language", NeedleBatches, "batch", 1 + 3),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    recipe, unbroken, tmp_path, monkeypatch, stage, dataset, method, number
):
    with monkeypatch.context() as patched:
        killed_at(patched, dataset, method, number)
        with pytest.raises(Killed):
            run(recipe, tmp_path)
    # Every two of our batches, though each is a step of two optimizers.
    assert steps_done(tmp_path / stage) == 2
    assert not (tmp_path / stage / "config.json").exists() and not (tmp_path / "x2l_tiny").exists()
    assert run(recipe, tmp_path) == 0
    for name in ("vision", "language"):
        assert read_log(tmp_path / name / "log.jsonl") == read_log(unbroken / name / "log.jsonl")
        weights, expected = (load_file(out / name / "model.safetensors") for out in (tmp_path, unbroken))
        assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_two_runs_do_not_train_in_one_folder(recipe, tmp_path, capsys):
    with alone_in(tmp_path):
        assert run(recipe, tmp_path) == 2
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    expected = f"x2l: error: {tmp_path}: another run is writing there, expected to be alone"
    assert capsys.readouterr().err.splitlines()[-1] == expected
    with alone_in(tmp_path):
        pass


def test_what_a_killed_run_leaves_behind_keeps_nobody_out(tmp_path):
    """A loading process may live on when the run is killed that it was forked from."""
    code = """
import os, sys, time
from pathlib import Path
from x2l.storage.files import alone_in
begun, begin = os.pipe()
with alone_in(Path(sys.argv[1])):
    if os.fork() == 0:
        os.write(begin, b".")
        time.sleep(60)
    os.read(begun, 1)
    os.kill(os.getpid(), 9)
"""
    begun = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], start_new_session=True)
    assert begun.wait() == -signal.SIGKILL
    try:
        with alone_in(tmp_path):
            os.killpg(begun.pid, 0)  # it is still there
    finally:
        os.killpg(begun.pid, signal.SIGKILL)


def test_what_is_complete_is_not_run_again(recipe, unbroken, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*") if path.is_file()}
    killed_at(monkeypatch, NeedleFrames, "_batch", 0)
    killed_at(monkeypatch, NeedleBatches, "batch", 0)
    assert run(recipe, unbroken) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_begun_with_another_recipe_is_refused(unbroken, tmp_path, capsys):
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(changed("language.stages.1.num_steps", 9)))
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*") if path.is_file()}
    assert run(tmp_path / "other.yaml", unbroken) == 2
    assert "language.stages.1.num_steps: " in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("*") if path.is_file()} == before


def test_how_often_to_checkpoint_decides_nothing(unbroken, tmp_path):
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(changed("checkpoint_every", 50)))
    assert run(tmp_path / "other.yaml", unbroken) == 0


def test_an_error_in_a_loading_process_is_one_line(tmp_path, capsys):
    """A step whose videos cannot be asked anything: that is known only when it is drawn."""
    recipe = changed(
        "language.stages.0", TOY["language"]["stages"][0] | {"questions": {"before": 1}, "chunks": [1, 1]}
    )
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", str(tmp_path / "bad.yaml"), "--out", str(tmp_path / "out"), "--workers", "1"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "Traceback" not in last and "step 0: no question of before fits" in last


def test_a_file_in_the_place_of_the_folder_is_one_line(recipe, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert run(recipe, tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "out") in line


def test_a_torn_line_of_the_log_is_left_out(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1, "loss": 2.0}]
    assert read_log(tmp_path / "absent.jsonl") == []


def test_what_never_compressed_is_a_plain_model(tmp_path):
    stages = [stage | {"ratios": {"1": 1}, "num_steps": 1} for stage in TOY["language"]["stages"]]
    toy = TOY | {"language": TOY["language"] | {"stages": stages}}
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(toy))
    assert run(path, tmp_path / "out") == 0
    for name in ("language", "x2l_tiny"):
        weights = load_file(tmp_path / "out" / name / "model.safetensors")
        assert weights and not any("beacon_" in key for key in weights)
        backbone = VideoXL.from_pretrained(str(tmp_path / "out" / name))
        own = backbone.model.model.layers[0].self_attn
        assert torch.equal(own.beacon_k_proj.weight, own.k_proj.weight)


# Recipes


@pytest.mark.parametrize("name", ["train_tiny", "train_plain"])
def test_the_recipe_can_be_run(name):
    recipe = TinyRecipe.load(RECIPES / f"{name}.yaml")
    stages = recipe.language.stages
    assert Curriculum(stages, recipe.seed).num_steps == sum(stage.num_steps for stage in stages)


def changed(path: str, value) -> dict:
    """TOY with the field at a dotted path replaced, or removed (None)."""
    data = yaml.safe_load(yaml.safe_dump(TOY))
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = data
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("language.stages.1.num_step", 3, "did you mean 'num_steps'?"),
        ("language.stages.1.num_steps", "many", "expected int, got 'many'"),
        ("language.stages.1.num_steps", 0, "expected a positive number, got 0"),
        ("language.stages.1.chunks", [3, 2], "expected 1 <= first <= last, got [3, 2]"),
        ("language.stages.0.ratios.2x", 1.0, "or two different ones"),
        ("language.stages.0.ratios.1/8", 1.0, "or two different ones"),
        ("language.stages.0.questions.details", 1, "did you mean 'detail'?"),
        ("language.stages", [], "expected at least one stage"),
        ("language.stages.0.questions", {"detail": 0}, "not all of them 0"),
        ("language.muon_lr", None, "missing, expected float"),
        ("language.retrieval_weight", -0.5, "expected a positive number"),
        ("vision.batch_size", None, "missing, expected int"),
        ("vision.adamw_lr", 0.0, "expected a positive number"),
        ("model.num_key_value_heads", 1, "as many as num_attention_heads (2)"),
        ("model.beacon_param", ["q", "k", "v"], "expected a list with q and o"),
        ("model.beacon_param", ["k", "v", "o"], "expected a list with q and o"),
        ("model.hidden_size", 33, "expected a multiple of num_attention_heads (2)"),
        ("model.vision_config.image_size", 40, "expected a multiple of four patches (32)"),
        ("model.vision_config.hidden_size", 17, "expected a multiple of num_attention_heads (2)"),
        ("precision", "16-mixed", "expected 32-true or bf16-mixed"),
        ("checkpoint_every", 0, "expected a positive number"),
        ("seed", -1, "expected an integer from 0 to 2^32 - 1"),
    ],
)
def test_a_malformed_recipe_is_one_line_that_names_the_field(tmp_path, capsys, path, value, message):
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(changed(path, value)))
    assert main(["fit", str(tmp_path / "bad.yaml"), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "bad.yaml" in line and f"{path}: " in line and message in line
    assert not (tmp_path / "out").exists()


def test_too_many_pairs_are_one_line(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(changed("language.stages.1.unique_pairs", 600)))
    assert main(["fit", str(tmp_path / "bad.yaml"), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "language.stages.1.unique_pairs + filler_pairs: expected" in line and "got 600 +" in line


@pytest.mark.parametrize("text", ["[1, 2]", "seed: [", "\x00"])
def test_a_file_that_is_no_recipe_is_one_line(tmp_path, capsys, text):
    (tmp_path / "bad.yaml").write_text(text)
    assert main(["fit", str(tmp_path / "bad.yaml"), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "bad.yaml" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_accelerator_is_one_line(tmp_path, capsys):
    (tmp_path / "gpu.yaml").write_text(yaml.safe_dump(TOY | {"accelerator": "gpu"}))
    assert run(tmp_path / "gpu.yaml", tmp_path / "out") == 2
    assert "accelerator: expected auto or cpu" in capsys.readouterr().err
