"""Post-training: the pipeline's own functions with gradients, what is trained, runs that are cut in two."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from models import save as save_folder
from models import tiny_backbone
from safetensors.torch import load_file, save_file
from stock_models import FAMILIES, checkpoint, stock_backbone
from torch.nn.functional import kl_div

from x2l.backbones.video_xl import VideoXL
from x2l.cache import assemble
from x2l.cli import main
from x2l.errors import X2LError
from x2l.needles.vocabulary import build_tokenizer
from x2l.pipeline import Pipeline
from x2l.recipe import Recipe, build_pipeline
from x2l.training import lightning_cli
from x2l.training.levels import Levels, draw_levels, random_plan
from x2l.training.loop import read_log, steps_done
from x2l.training.qa_data import BrokenVideos, VideoQA, VideoQADataModule
from x2l.training.qa_recipe import VideoQARecipe
from x2l.training.start import let_vsts_gather
from x2l.training.trainable import LoRA, make_trainable, part_of, trained_weights
from x2l.training.x2l_module import X2LModule
from x2l.types import Plan
from x2l.video import Footage, Sampling

NEEDLES = {"name": "needles", "num": 6, "seed": 7, "chunks": [3, 4], "seconds_per_scene": 2}
NEEDLES |= {"questions": {"detail": 2, "exist": 1}}
LORA = {"rank": 2, "alpha": 4.0, "targets": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint folder of a tiny random Video-XL."""
    path = tmp_path_factory.mktemp("model")
    end = build_tokenizer().eos_token_id
    save_folder(tiny_backbone(initializer_range=0.05, eos_token_id=end), path)
    return path


def pipeline_of(folder: Path, **fields) -> dict:
    backbone = {"name": "video_xl", "model": str(folder)}
    compressor = {"name": "vst"}
    selector = {"name": "top_k", "k": 1}
    return {"backbone": backbone, "compressor": compressor, "selector": selector, "chunk_frames": 2} | {
        "ratios": [2, 8],
        **fields,
    }


def batches(num: int = 2, **fields) -> list[VideoQA]:
    data = VideoQADataModule(NEEDLES, chunk_frames=2, num_steps=num, seed=3, **fields)
    return list(data.train_dataloader())


def module_of(folder: Path, **options) -> X2LModule:
    pipeline = options.pop("pipeline", None) or pipeline_of(folder)
    torch.manual_seed(0)  # of adapters
    return X2LModule(pipeline, **{"trains": ["vst", "language_model"], "num_steps": 4, "lr": 1e-3, **options})


# One path


COMPRESSORS = ["vst", "identity", "mean_pool"]


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_training_answers_as_the_pipeline_does(folder, compressor, recompute):
    """Equal logits for the same plan: with gradients, chunks computed again or not, or asked as ever."""
    ratios = [1] if compressor == "identity" else [2, 8]
    pipeline = pipeline_of(folder, compressor={"name": compressor}, ratios=ratios)
    module, batch = module_of(folder, pipeline=pipeline, recompute=recompute), batches(1)[0]
    answered = module.answer(batch)
    asked = build_pipeline(Recipe.from_mapping(pipeline))
    index = asked_index(asked, batch)
    assert len(answered.logits) == len(batch.questions) == 3
    for logits, labels, question in zip(answered.logits, answered.labels, batch.questions, strict=True):
        plan = asked.plan(question, index)
        cache = assemble(index, plan, asked.backbone)
        ids = torch.cat((asked.backbone.encode_question(question), labels[:-1]))
        expected = asked.backbone.logits(ids, cache)[-len(labels) :]
        torch.testing.assert_close(logits.detach(), expected, rtol=0, atol=1e-5)
        assert logits.requires_grad


@torch.no_grad()
def asked_index(pipeline: Pipeline, batch: VideoQA):
    """As `Pipeline.index` makes it of a file."""
    return pipeline.index(Shown(batch))


class Shown(Footage):
    """The frames of a training video, as the pipeline asks for those of a file."""

    reader = "memory"

    def __init__(self, batch: VideoQA):
        times_s = np.concatenate([clip.times_s for clip in batch.clips])
        super().__init__(Path(batch.name), times_s, batch.facts.duration_s, Sampling())
        self.frames = np.concatenate([clip.frames for clip in batch.clips])

    def _content(self):
        return {}

    def _read(self, indices):
        return self.frames[indices]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_stock_models_learn_through_the_same_lines(family, tmp_path):
    """Pooled KVs of a stock model, LoRA on its language model: the loss falls on a video seen again."""
    backbone = {"name": family, "model": str(checkpoint(family, tmp_path))}
    pipeline = pipeline_of(tmp_path, backbone=backbone, compressor={"name": "mean_pool"}, ratios=[2, 4])
    module = module_of(tmp_path, pipeline=pipeline, trains=["lora"], lora=LoRA(**LORA))
    batch = batches(1)[0]
    optimizer = module.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(5):
        loss = module.answer(batch).report()["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def gradients(module: X2LModule, batch: VideoQA) -> dict[str, torch.Tensor]:
    module.zero_grad()
    module.answer(batch).report()["loss"].backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_chunks_that_are_computed_again_leave_the_same_gradients(folder):
    batch = batches(1)[0]
    kept, again = (gradients(module_of(folder, recompute=recompute), batch) for recompute in (False, True))
    assert kept.keys() == again.keys() and len(kept) > 40
    for name in kept:
        torch.testing.assert_close(kept[name], again[name], rtol=1e-4, atol=1e-6)


def test_what_is_kept_of_a_chunk_does_not_hold_the_chunks_before(folder):
    """Twice the chunks, about twice the bytes: every chunk keeping its memory whole would be four times."""
    module = module_of(folder, trains=["vst"])
    sizes = [saved_bytes(module, num_chunks) for num_chunks in (8, 16)]
    assert sizes[1] < 2.4 * sizes[0]


def saved_bytes(module: X2LModule, num_chunks: int) -> int:
    """Of all tensors that wait for the backward pass of a video's encoding."""
    spec = NEEDLES | {"chunks": [num_chunks, num_chunks]}
    batch = next(iter(VideoQADataModule(spec, chunk_frames=2, num_steps=1).train_dataloader()))
    kept: dict[int, int] = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        index = module.encode(batch, module._training_pipeline)
        assert len(index.chunks) == num_chunks
    return sum(kept.values())


def test_another_objective_is_one_method(folder):
    """Distillation from uncompressed KVs."""

    class Distilled(X2LModule):
        def loss(self, answered, batch):
            with torch.no_grad():
                teacher = self.answer(batch, (1,), plan_from="selector")
            pairs = zip(answered.logits, teacher.logits, strict=True)
            return sum(kl_div(a.log_softmax(-1), b.softmax(-1), reduction="batchmean") for a, b in pairs)

    batch, losses = batches(1)[0], []
    for kind in (X2LModule, Distilled):
        module = kind(pipeline_of(folder, selector={"name": "constant"}), trains=["vst"], num_steps=1)
        module.log_dict = lambda report, **_: None
        losses.append(module.training_step(batch, 0)["loss"])
        losses[-1].backward()
    assert losses[0] != losses[1] and losses[1] >= 0
    assert any(weight.grad is not None for weight in module.network.parameters())


# What is trained


def test_only_the_named_parts_are_trained(folder):
    for parts in (["vst"], ["projector"], ["tower", "projector"], ["vst", "language_model"]):
        pipeline = build_pipeline(Recipe.from_mapping(pipeline_of(folder)))
        make_trainable(pipeline, parts, LoRA())
        trained = trained_weights(pipeline.backbone.model)
        assert {part_of(name, VideoXL) for name in trained} == set(parts)
    assert any("beacon_embed_tokens" in name for name in trained)


def test_adapters_are_on_the_language_model_and_on_vsts_if_asked_for(folder):
    pipeline = build_pipeline(Recipe.from_mapping(pipeline_of(folder)))
    make_trainable(pipeline, ["lora"], LoRA(targets=["q_proj", "beacon_v_proj"]))
    trained = trained_weights(pipeline.backbone.model)
    assert len(trained) == 2 * 2 * 3  # A and B, two layers of each of three decoder layers
    assert all("vision" not in name for name in trained)
    assert any("beacon_v_proj" in name for name in trained)


@pytest.mark.parametrize("part", ["vst", "projector", "tower"])
def test_what_is_computed_again_is_not_kept(folder, part):
    """Of the tower and the projector neither."""
    batch, kept = batches(1)[0], {}
    for recompute in (True, False):
        module = module_of(folder, trains=[part], recompute=recompute)
        pipeline, sizes = module._training_pipeline, []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):  # noqa: B023
            module.encode(batch, pipeline)
        kept[recompute] = sum(sizes)
    assert kept[True] < 0.3 * kept[False]


@pytest.mark.parametrize("target", ["none", "input_layernorm"])
def test_adapters_that_fit_nothing_are_refused(folder, target):
    pipeline = build_pipeline(Recipe.from_mapping(pipeline_of(folder)))
    with pytest.raises(X2LError, match=f"lora.targets: {target}: unknown, expected one of"):
        make_trainable(pipeline, ["lora"], LoRA(targets=["q_proj", target]))


def test_what_is_trained_is_held_in_fp32_and_saved_as_the_model_is(folder, tmp_path):
    half = {"name": "video_xl", "model": str(folder), "dtype": "bf16"}
    path = recipe_of(folder, tmp_path / "half.yaml", pipeline=pipeline_of(folder, backbone=half), num_steps=2)
    assert run(path, tmp_path / "out", "precision=bf16-mixed") == 0
    files = ("trained.safetensors", "model/model.safetensors")
    trained, merged = (load_file(tmp_path / "out" / name) for name in files)
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}


# Ratios and plans


def test_ratios_follow_the_stages():
    stages = [Levels(3, {"2": 1.0}), Levels(2, {"4": 1.0, "8": 1.0}), Levels(1, {"2/16": 1.0})]
    rng = np.random.default_rng(0)
    drawn = [{draw_levels(stages, step, rng) for _ in range(20)} for step in range(8)]
    assert drawn[:3] == [{(2,)}] * 3
    assert drawn[3:5] == [{(4,), (8,)}] * 2
    assert drawn[5:] == [{(2, 16)}] * 3
    assert draw_levels([], 0, rng) is None


def test_random_plans_mix_the_ratios_of_one_video(folder):
    module, batch = module_of(folder, plan="random"), batches(1)[0]
    index = module.encode(batch, module.pipeline)
    plans = {random_plan(index, np.random.default_rng(seed)) for seed in range(20)}
    assert {ratio for plan in plans for ratio in plan.ratios} == {2, 8} and len(plans) > 5
    assert module.answer(batch).report()["loss"] == module.answer(batch).report()["loss"]


def test_uncompressed_needs_no_compressor(folder):
    module = module_of(folder, levels=[Levels(1, {"1": 1.0})])
    index = module.answer(batches(1)[0], (1,)).index
    assert index.ratios == (1,)
    assert all(chunk.levels[1].num_tokens == chunk.num_visual_tokens for chunk in index.chunks)


def test_gradients_reach_vsts_through_the_memory_of_later_chunks(folder):
    """The answer is read from the last chunk alone: the first one's VSTs matter through what it saw."""
    module, batch = module_of(folder, trains=["vst"]), batches(1)[0]
    pipeline = module._training_pipeline
    index = module.encode(batch, pipeline)
    plan = Plan((*[0] * (len(index.chunks) - 1), 2))
    first = index.chunks[0].levels[2].keys
    logits, _ = module.answer_logits(pipeline, index, plan, batch.questions[0])
    (gradient,) = torch.autograd.grad(logits.sum(), first)
    assert gradient.abs().max() > 0


def test_what_is_learned_by_heart_is_what_is_answered(folder):
    """The label of a token is the one that is written next."""
    module, batch = module_of(folder), batches(1)[0]
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 3e-3)
    for _ in range(60):
        report = module.answer(batch).report()
        optimizer.zero_grad()
        report["loss"].backward()
        optimizer.step()
    assert report["accuracy"] == 1.0
    index = asked_index(module.pipeline, batch)
    module.pipeline.backbone._identity = index.spec.backbone
    assert [module.pipeline.ask(index, q).text for q in batch.questions] == [
        q.answer for q in batch.questions
    ]


# The whole command


def recipe_of(folder: Path, path: Path, **fields) -> Path:
    recipe = {
        "train": "video_qa",
        "seed": 3,
        "accelerator": "cpu",
        "checkpoint_every": 2,
        "pipeline": pipeline_of(folder),
        "trains": ["vst", "lora"],
        "lora": LORA,
        "data": NEEDLES,
        "num_steps": 5,
        "accumulate": 2,
        "lr": 0.002,
    }
    path.write_text(yaml.safe_dump(recipe | fields))
    return path


def run(recipe: Path, out: Path, *assignments: str) -> int:
    given = [part for assignment in assignments for part in ("--set", assignment)]
    return main(["fit", str(recipe), "--out", str(out), "--workers", "0", *given])


@pytest.fixture(scope="module")
def recipe(folder, tmp_path_factory) -> Path:
    return recipe_of(folder, tmp_path_factory.mktemp("recipe") / "post.yaml")


@pytest.fixture(scope="module")
def unbroken(recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    assert run(recipe, out) == 0
    return out


def test_a_run_leaves_what_was_trained_and_a_folder_with_it_merged(unbroken, folder):
    trained = load_file(unbroken / "trained.safetensors")
    assert {part_of(name, VideoXL) for name in trained} == {"vst", "lora"}
    before, after = (load_file(path / "model.safetensors") for path in (folder, unbroken / "model"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    # In the last layer, VSTs are keys and values only.
    trainable = r"^model\.(beacon_|layers.*(beacon_[kv]_|\.[qv]_proj\.w)|layers\.[01].*beacon_)"
    assert changed == {name for name in before if re.search(trainable, name)}
    assert [line["step"] for line in read_log(unbroken / "log.jsonl")] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_the_merged_folder_answers_as_the_trained_network(unbroken, folder):
    batch = batches(1)[0]
    module = module_of(folder, trains=["vst", "lora"], lora=LoRA(**LORA))
    module.network.load_state_dict(load_file(unbroken / "trained.safetensors"), strict=False)
    merged = module_of(unbroken / "model")
    for logits, expected in zip(merged.answer(batch).logits, module.answer(batch).logits, strict=True):
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_logs_for_people_are_beside_it(unbroken):
    (table,) = (unbroken / "logs").rglob("metrics.csv")
    assert {"loss", "accuracy"} <= set(table.read_text().splitlines()[0].split(","))
    assert list((unbroken / "logs").rglob("events.out.tfevents*"))


def test_a_checkpoint_holds_what_is_trained_and_no_more(unbroken):
    stored = torch.load(unbroken / "last.ckpt", weights_only=True)
    assert {part_of(name, VideoXL) for name in stored["state_dict"]} == {"vst", "lora"}
    assert steps_done(unbroken) == 4


class Killed(BaseException):
    """As sudden as a signal: nothing in between handles it."""


@pytest.mark.parametrize("killed_at", [5, 8])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(recipe, unbroken, tmp_path, monkeypatch, killed_at):
    seen, whole = [], X2LModule.training_step

    def step(module, *given):
        seen.append(given)
        if len(seen) > killed_at:
            raise Killed
        return whole(module, *given)

    with monkeypatch.context() as patched:
        patched.setattr(X2LModule, "training_step", step)
        with pytest.raises(Killed):
            run(recipe, tmp_path)
    assert steps_done(tmp_path) in (2, 4) and not (tmp_path / "trained.safetensors").exists()
    assert run(recipe, tmp_path) == 0
    assert read_log(tmp_path / "log.jsonl") == read_log(unbroken / "log.jsonl")
    trained, expected = (load_file(out / "trained.safetensors") for out in (tmp_path, unbroken))
    assert all(torch.equal(trained[name], expected[name]) for name in expected)


def test_a_resumed_run_looks_at_held_out_questions_as_often(folder, tmp_path, monkeypatch):
    """The look behind the step of the checkpoint is neither left out nor made twice."""
    path = recipe_of(folder, tmp_path / "val.yaml", val=VAL, val_every=2)
    looks, whole, steps = {"unbroken": [], "resumed": []}, X2LModule.validation_step, X2LModule.training_step
    for out, seen in looks.items():

        def look(module, *given, seen=seen):
            seen.append((module.step, whole(module, *given)))

        def step(module, *given):
            if module.step == 3:
                raise Killed
            return steps(module, *given)

        monkeypatch.setattr(X2LModule, "validation_step", look)
        if out == "resumed":
            with monkeypatch.context() as patched, pytest.raises(Killed):
                patched.setattr(X2LModule, "training_step", step)
                run(path, tmp_path / out)
        assert run(path, tmp_path / out) == 0
    assert looks["resumed"] == looks["unbroken"]
    assert [step for step, _ in looks["unbroken"]] == [0, 0, 2, 2, 4, 4]
    lines = read_log(tmp_path / "resumed" / "val.jsonl")
    assert lines == read_log(tmp_path / "unbroken" / "val.jsonl")
    assert [line["step"] for line in lines] == [0, 2, 4]
    assert all((tmp_path / "resumed" / f"training.{kind}").is_file() for kind in ("png", "svg"))
    assert all({"val_loss", "val_accuracy"} < line.keys() for line in lines)


KILLER = """
from x2l.training.x2l_module import X2LModule

whole = X2LModule.training_step

def step(module, *given):
    if module.step == 3:
        raise SystemExit("killed")
    return whole(module, *given)

X2LModule.training_step = step
"""


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_learn_what_one_does_from_the_same_videos(recipe, unbroken, tmp_path, strategy):
    """Also if they are stopped on the way."""
    killer = tmp_path / "killer.py"
    killer.write_text(KILLER)
    assert in_two_processes(recipe, tmp_path, strategy, "--plugin", str(killer)).returncode != 0
    assert steps_done(tmp_path) == 2
    done = in_two_processes(recipe, tmp_path, strategy)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(str(tmp_path / "model")) == 1
    one = read_log(unbroken / "log.jsonl")
    two = [read_log(tmp_path / name) for name in ("log.jsonl", "log-1.jsonl")]
    expected = [np.mean([line["loss"] for line in one if line["step"] == step]) for step in range(1, 6)]
    losses = [np.mean([ranks[0]["loss"], ranks[1]["loss"]]) for ranks in zip(*two, strict=True)]
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
    trained, single = (load_file(out / "trained.safetensors") for out in (tmp_path, unbroken))
    assert trained.keys() == single.keys()
    for name in single:
        torch.testing.assert_close(trained[name], single[name], rtol=0, atol=1e-4)


def in_two_processes(recipe: Path, out: Path, strategy: str, *more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "x2l.cli", "fit", str(recipe), "--out", str(out), "--workers", "0"]
    options = [f"strategy={strategy}", "devices=2", "accumulate=1", "loggers=[csv]"]
    given = [part for option in options for part in ("--set", option)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += [*given, *more]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


LOOKS = """
from x2l.training.x2l_module import X2LModule

def look(module, *_):
    module.log("val_loss", abs(module.step - 2.0), batch_size=1, sync_dist=True)

X2LModule.validation_step = look
"""


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_two_processes_that_stop_early_keep_the_best_weights(folder, tmp_path, strategy, monkeypatch):
    monkeypatch.setattr(X2LModule, "validation_step", X2LModule.validation_step)  # puts it back afterwards
    looks = tmp_path / "looks.py"
    looks.write_text(LOOKS)
    fields = {"val": VAL, "val_every": 1, "early_stop": {"patience": 2}, "num_steps": 6, "accumulate": 2}
    path = recipe_of(folder, tmp_path / "stop.yaml", **fields)
    assert main(["fit", str(path), "--out", str(tmp_path / "one"), "--plugin", str(looks)]) == 0
    done = in_two_processes(path, tmp_path / "two", strategy, "--plugin", str(looks))
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_log(tmp_path / "two" / "log.jsonl")[-1]["step"] == 4
    one, two = (load_file(tmp_path / out / "trained.safetensors") for out in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-4)


def test_tokens_kept_in_another_precision_are_not_read(recipe, unbroken, tmp_path):
    cache = f"token_cache={tmp_path / 'tokens'}"
    assert run(recipe, tmp_path / "mixed", cache, "precision=bf16-mixed") == 0
    assert run(recipe, tmp_path / "full", cache) == 0
    assert read_log(tmp_path / "full" / "log.jsonl") == read_log(unbroken / "log.jsonl")
    assert read_log(tmp_path / "mixed" / "log.jsonl") != read_log(unbroken / "log.jsonl")


def test_kept_tokens_change_nothing(recipe, unbroken, tmp_path):
    cache = tmp_path / "tokens"
    for out in ("first", "second"):
        assert run(recipe, tmp_path / out, f"token_cache={cache}") == 0
        assert read_log(tmp_path / out / "log.jsonl") == read_log(unbroken / "log.jsonl")
    assert len(list(cache.iterdir())) == 6


VAL = NEEDLES | {"num": 2, "seed": 8}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_held_out_questions_are_looked_at_and_stop_a_run_that_does_not_improve(folder, tmp_path, accumulate):
    fields = {"val": VAL, "val_every": 1, "early_stop": {"patience": 2}, "lr": 1e-12, "num_steps": 30}
    fields["accumulate"] = accumulate
    # A rate of nothing: the loss on held-out questions stays where it is.
    path = recipe_of(folder, tmp_path / "stop.yaml", **fields)
    assert run(path, tmp_path / "out") == 0
    assert read_log(tmp_path / "out" / "log.jsonl")[-1]["step"] < 10
    (table,) = (tmp_path / "out" / "logs").rglob("metrics.csv")
    assert "val_accuracy" in table.read_text().splitlines()[0]
    assert (tmp_path / "out" / "model" / "config.json").is_file()


def test_the_last_weights_are_looked_at_before_the_best_are_kept(folder, tmp_path, capsys):
    fields = {"val": VAL, "val_every": 4, "early_stop": {"patience": 2}, "num_steps": 30}
    assert run(recipe_of(folder, tmp_path / "stop.yaml", **fields), tmp_path / "out") == 2
    assert "val_every: expected a divisor of num_steps (30) with early_stop, got 4" in capsys.readouterr().err


def test_a_run_that_stops_early_keeps_the_weights_with_the_lowest_loss(folder, tmp_path, monkeypatch):
    """Also if it is killed behind them."""
    seen, whole, out = {}, X2LModule.training_step, tmp_path / "out"

    def look(module, *_):
        weights = trained_weights(module.network)
        seen[module.step] = {name: weight.detach().clone() for name, weight in weights.items()}
        module.log("val_loss", abs(module.step - 3.0), batch_size=1)

    def step(module, *given):
        if module.step == 4:
            raise Killed
        return whole(module, *given)

    monkeypatch.setattr(X2LModule, "validation_step", look)
    fields = {"val": VAL, "val_every": 1, "early_stop": {"patience": 2}, "num_steps": 30}
    path = recipe_of(folder, tmp_path / "stop.yaml", checkpoint_every=4, **fields)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(X2LModule, "training_step", step)
        run(path, out)
    assert steps_done(out) == 4
    assert run(path, out) == 0
    assert max(seen) == 5
    kept = load_file(out / "trained.safetensors")
    assert all(weight.equal(seen[3][name]) for name, weight in kept.items())
    assert not all(weight.equal(seen[5][name]) for name, weight in kept.items())
    assert not (out / "best.safetensors").exists()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("trains=[vts]", "trains.0"),
        ("trains=[]", "trains: expected at least one part"),
        ("lr=0", "lr: expected a positive number, got 0"),
        ("pipeline.compressor=vts", "did you mean 'vst'"),
        (
            "pipeline.chunk_frames=scenes",
            "pipeline.chunk_frames: scenes needs frame_features of a backbone",
        ),
        ("vst_start=gather", "vst_start: expected kept with this backbone"),
        ("vst_start=gather trains=[lora]", "trains: expected vst or all with vst_start"),
        ("lora.rank=0", "lora.rank: expected 1 or more, got 0"),
        ("early_stop={patience: 2}", "early_stop: expected held-out questions (val) to look at"),
        ("levels=[{num_steps: 1, ratios: {2/2: 1}}]", "levels.0.ratios.2/2"),
        ("data={name: nothing}", "nothing"),
        ("data.num=0", "num"),
        ("loggers=[paper]", "loggers.0"),
        ("warmup_share=2", "warmup_share: expected a number from 0 to 1"),
        ("seed=4294967296", "seed: expected an integer from 0 to 2^32 - 1"),
        ("trains=[vst] levels=[{num_steps: 1, ratios: {'1': 1}}]", "trains: VSTs only"),
        ("trains=[vst] pipeline.compressor=mean_pool", "trains: VSTs only"),
        ("levels=[{num_steps: 5, ratios: {'2': 1}}, {num_steps: 1, ratios: {'8': 1}}]", "levels.1: expected"),
        (
            "pipeline.selector.gist_ratio=8 levels=[{num_steps: 5, ratios: {'2': 1}}]",
            "selector.gist_ratio (8)",
        ),
        ("trains=[vst] pipeline.backbone.dtype=bf16", "precision: expected bf16-mixed"),
        ("lr=1e+30", "the loss is nan"),
    ],
)
def test_a_malformed_recipe_is_one_line_that_names_the_field(recipe, tmp_path, capsys, assignment, message):
    assert run(recipe, tmp_path / "out", *re.split(r" (?=\w+[.=])", assignment)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("x2l: error: ") and message in error
    assert not (tmp_path / "out" / "trained.safetensors").exists()


@pytest.mark.parametrize(
    "slip",
    [
        "data={name: llava, file: absent.json}",
        "levels=[{num_steps: 9, ratios: {'2': 1}}, {num_steps: 1, ratios: {'8': 1}}]",
    ],
)
def test_a_slip_does_not_bind_the_folder(recipe, tmp_path, slip):
    assert run(recipe, tmp_path / "out", slip) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("assignment", ["max_broken_share=0.5", "pipeline.backbone.device=cpu", "data.dir=x"])
def test_a_run_may_go_on_elsewhere_and_with_more_patience(recipe, assignment):
    assert VideoQARecipe.load(recipe, [assignment]).decisive() == VideoQARecipe.load(recipe).decisive()


def test_tokens_are_not_kept_where_the_projector_is_trained(recipe, tmp_path, capsys):
    assert run(recipe, tmp_path / "out", "trains=[projector]", f"token_cache={tmp_path / 'tokens'}") == 2
    assert "token_cache: expected null" in capsys.readouterr().err


# The page and the benchmark


PAGE = Path(__file__).parents[2] / "docs" / "post_training.md"


def blocks() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def test_the_recipe_of_the_page_is_one():
    shown = yaml.safe_load(blocks()[0])
    assert VideoQARecipe.from_mapping(shown).answering.ratios == (2, 32)
    fields = {field.name for field in dataclasses.fields(VideoQARecipe)}
    named = re.findall(r"^\| (`.*?`) \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(named) > 5 and {name for row in named for name in re.findall(r"`(\w+)`", row)} <= fields


def test_lightnings_own_command_line_follows_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(blocks()[1])
    cli = lightning_cli.main(["fit", "--config", "run.yaml"])
    assert cli.trainer.global_step == cli.model.num_steps == 2
    assert any(isinstance(callback, BrokenVideos) for callback in cli.trainer.callbacks)
    stored = next(tmp_path.rglob("*.ckpt"))
    assert {part_of(name, VideoXL) for name in torch.load(stored, weights_only=True)["state_dict"]} == {"vst"}


def test_the_benchmark_runs(tmp_path):
    script = Path(__file__).parents[2] / "benchmarks" / "training.py"
    command = [
        sys.executable,
        str(script),
        "--geometry",
        "7b",
        "--small",
        "--frames",
        "20",
        "--out",
        "measured",
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    rows = json.loads((tmp_path / "measured.json").read_text())["figures"]
    assert [row["chunks"] for row in rows] == ["recomputed", "kept"]
    assert all(row["step_s"] > 0 and row["peak_gb"] > 0 for row in rows)
    assert (tmp_path / "measured.svg").is_file()
    line = (tmp_path / "measured.md").read_text().splitlines()[-1]
    assert re.fullmatch(r"\| 20 \|( \d+\.\d\d \|){2} 1\.0x \| \d+\.\dx \|", line)


def test_the_page_shows_what_was_measured():
    table = (Path(__file__).parents[2] / "benchmarks" / "training_cpu.md").read_text()
    assert table.count("\n") > 3 and table in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["post_training_4k", "lora"])
def test_the_recipe_can_be_run(name, tmp_path):
    """Two steps of it, on two videos."""
    path = Path(__file__).parents[2] / "recipes" / f"{name}.yaml"
    few = ["num_steps=1", "data.num=2", "data.chunks=[3, 3]", "accumulate=1", "val=null"]
    assert run(path, tmp_path, *few) == 0
    assert (tmp_path / "model" / "config.json").is_file()


def trained_plain(folder: Path, tmp_path: Path, *assignments: str) -> tuple[dict, dict]:
    """What vst_from_qwen2 makes in two steps of a model without its VSTs, and that model's weights."""
    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    weights = load_file(plain / "model.safetensors")
    own = {name: weight for name, weight in weights.items() if "beacon_" not in name}
    assert len(own) < len(weights)
    save_file(own, plain / "model.safetensors", {"format": "pt"})
    path = Path(__file__).parents[2] / "recipes" / "vst_from_qwen2.yaml"
    few = ["num_steps=2", "data.num=2", "data.chunks=[3, 3]", "accumulate=1", "val=null"]
    assert run(path, tmp_path / "out", f"pipeline.backbone.model={plain}", *few, *assignments) == 0
    return load_file(tmp_path / "out" / "model" / "model.safetensors"), own


def test_a_plain_model_is_given_vsts(folder, tmp_path):
    """Those that it lacks start as copies; trained, they are in the folder that is written."""
    given, own = trained_plain(folder, tmp_path, "vst_start=kept")
    assert given.keys() == load_file(folder / "model.safetensors").keys()
    assert all(torch.equal(given[name], own[name]) for name in own)
    started = given["model.layers.0.self_attn.beacon_k_proj.weight"]
    torch.testing.assert_close(started, own["model.layers.0.self_attn.k_proj.weight"], rtol=0, atol=0.02)
    assert not torch.equal(started, own["model.layers.0.self_attn.k_proj.weight"])


def test_vsts_may_start_by_gathering_what_they_attend_to(tmp_path):
    """In the first layer only, with the size of visual tokens for a gain; nothing but VSTs is changed."""
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 4, "beacon_param": ["q", "k", "v", "o"]}
    save_folder(tiny_backbone(eos_token_id=build_tokenizer().eos_token_id, **sizes), tmp_path / "model")
    given, own = trained_plain(tmp_path / "model", tmp_path)
    assert all(torch.equal(given[name], own[name]) for name in own)
    outputs = [weight for name, weight in sorted(given.items()) if "beacon_o_proj.weight" in name]
    gains = [output.diag().mean().item() for output in outputs]
    backbone, clip = VideoXL.from_pretrained(str(tmp_path / "plain")), batches(1)[0].clips[0]
    size = backbone.embed(clip.frames, clip.times_s).square().mean().sqrt().item()
    assert gains[0] == pytest.approx(size, rel=0.3)
    torch.testing.assert_close(outputs[0], gains[0] * torch.eye(len(outputs[0])), rtol=0, atol=0.05)
    assert all(output.abs().max() < 0.05 for output in outputs[1:])


def test_only_a_model_with_vsts_can_gather(tmp_path):
    with pytest.raises(X2LError, match="vst_start: expected kept with this backbone"):
        let_vsts_gather(stock_backbone("smolvlm", tmp_path), iter(()))
