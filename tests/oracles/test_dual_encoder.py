"""The dual encoder against the stock classes it is made of, and its training from recipe to oracle."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from models import bare_index, chunks, index_of
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from x2l.backbones.x2l_tiny import X2LTiny
from x2l.cli import main
from x2l.compressors.identity import Identity
from x2l.from_scratch.dual_encoder import (
    DualEncoderModule,
    new_dual_encoder,
    own_video,
    question_tokenizer,
    recalls,
    retrieval_loss,
)
from x2l.from_scratch.dual_encoder_recipe import DualEncoderRecipe, DualEncoderSizes, TextSizes
from x2l.from_scratch.scene_batches import SceneBatch, SceneBatches, SceneOptions
from x2l.needles.videos import NeedleVideos
from x2l.oracles import _image_text
from x2l.oracles._checkpoint import fingerprint
from x2l.oracles._image_text import load
from x2l.oracles.dual_encoder import WEIGHTS, DualEncoder
from x2l.storage.files import bytes_in
from x2l.training.loop import read_log, steps_done
from x2l.types import Chunk, Question, X2LError

RECIPES = Path(__file__).parents[2] / "recipes"
POOLS = ("mean", "max", "top2_mean")
QUESTION = Question("Which number does the red star show?", options=("1", "2"))
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TEXT | {"image_size": 32, "patch_size": 8}


def text_config(tokenizer, max_tokens: int) -> dict:
    ids = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    return TEXT | ids | {"vocab_size": len(tokenizer), "max_position_embeddings": max_tokens}


def save_clip(folder: Path, seed: int = 0, max_tokens: int = 16) -> Path:
    torch.manual_seed(seed)
    tokenizer = question_tokenizer()
    network = CLIPModel(
        CLIPConfig(text_config=text_config(tokenizer, max_tokens), vision_config=VISION, projection_dim=24)
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_siglip(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    tokenizer = question_tokenizer()
    network = SiglipModel(SiglipConfig(text_config=text_config(tokenizer, 64), vision_config=VISION))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def source(backbone):
    return chunks(backbone, ragged=True)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> Path:
    return save_siglip(tmp_path_factory.mktemp("siglip"))


# Parity with the stock classes


CLIP_PROCESSOR = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
SIGLIP_PROCESSOR = SiglipImageProcessorPil(size={"height": 32, "width": 32})


def stock_scores(network, processor, source, ids, pool):
    """One score per chunk, straight from the stock network: projected embeddings, cosines, pool."""
    text = normalize(network.get_text_features(ids).pooler_output, dim=-1)[0]
    scores = []
    for chunk in source:
        pixels = processor(images=list(chunk.frames), return_tensors="pt")["pixel_values"]
        cosines = normalize(network.get_image_features(pixels).pooler_output, dim=-1) @ text
        best = cosines.sort(descending=True).values
        scores.append({"mean": best.mean(), "max": best[0], "top2_mean": best[:2].mean()}[pool])
    return torch.stack(scores)


@pytest.mark.parametrize("pool", POOLS)
@torch.no_grad()
def test_scores_are_those_of_the_stock_clip(clip, backbone, source, pool):
    oracle = DualEncoder(str(clip), pool)
    scores = oracle.score(QUESTION, index_of(backbone, Identity(), source, oracles=(oracle,)), backbone)
    ids = question_tokenizer()(QUESTION.text, return_tensors="pt")["input_ids"]
    expected = stock_scores(CLIPModel.from_pretrained(clip), CLIP_PROCESSOR, source, ids, pool)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert scores.dtype == torch.float32 and len(scores.unique()) == len(source)


@pytest.mark.parametrize("pool", POOLS)
@torch.no_grad()
def test_scores_are_those_of_the_stock_siglip_with_padded_text(siglip, backbone, source, pool):
    oracle = DualEncoder(str(siglip), pool)
    scores = oracle.score(QUESTION, index_of(backbone, Identity(), source, oracles=(oracle,)), backbone)
    tokenizer, network = question_tokenizer(), SiglipModel.from_pretrained(siglip)
    padded = tokenizer(QUESTION.text, padding="max_length", max_length=64, return_tensors="pt")["input_ids"]
    assert padded.shape == (1, 64)
    expected = stock_scores(network, SIGLIP_PROCESSOR, source, padded, pool)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    short = tokenizer(QUESTION.text, return_tensors="pt")["input_ids"]
    assert not torch.allclose(scores, stock_scores(network, SIGLIP_PROCESSOR, source, short, pool), atol=1e-5)


@torch.no_grad()
def test_mixed_precision_does_not_round_the_scores(clip, backbone, source):
    """Neighbours would change places."""

    def scores():
        oracle = DualEncoder(str(clip))
        return oracle.score(QUESTION, index_of(backbone, Identity(), source, oracles=(oracle,)), backbone)

    with torch.autocast("cpu", torch.bfloat16):
        rounded = scores()
    assert rounded.equal(scores())


@pytest.mark.parametrize("shape", [(40, 48), (49, 33), (32, 32), (20, 70)], ids=str)
@pytest.mark.parametrize(
    ("make", "processor"), [("clip", CLIP_PROCESSOR), ("siglip", SIGLIP_PROCESSOR)], ids=["clip", "siglip"]
)
def test_pixels_are_those_of_the_stock_processor(request, make, processor, shape):
    folder = request.getfixturevalue(make)
    frames = np.random.default_rng(1).integers(0, 256, (3, *shape, 3), dtype=np.uint8)
    expected = processor(images=list(frames), return_tensors="pt")["pixel_values"]
    pixels = load(str(folder), "cpu").inputs(frames, torch.device("cpu"))["pixel_values"]
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


STORED = {
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "resample": 2,
}


@pytest.mark.parametrize("as_part", [False, True], ids=["preprocessor_config", "processor_config"])
def test_what_the_checkpoint_says_of_pixels_comes_first(tmp_path, as_part):
    folder = save_clip(tmp_path)
    processor = CLIPImageProcessorPil(**STORED)
    if as_part:
        part = json.dumps({"image_processor": processor.to_dict()})
        (folder / "processor_config.json").write_text(part)
    else:
        processor.save_pretrained(folder)
    frames = np.random.default_rng(1).integers(0, 256, (2, 50, 64, 3), dtype=np.uint8)
    expected = processor(images=list(frames), return_tensors="pt")["pixel_values"]
    pixels = load(str(folder), "cpu").inputs(frames, torch.device("cpu"))["pixel_values"]
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


def test_a_long_question_is_cut_and_keeps_its_end(clip):
    """16 positions: the last of them is the end token, at which CLIP reads the text off."""
    network, words = CLIPModel.from_pretrained(clip), "red star blue moon " * 9
    ids = [*question_tokenizer()(words)["input_ids"][:15], question_tokenizer().eos_token_id]
    with torch.no_grad():
        expected = normalize(network.get_text_features(torch.tensor([ids])).pooler_output, dim=-1)[0]
    torch.testing.assert_close(load(str(clip), "cpu").embed_text(words), expected, atol=1e-6, rtol=0)


def test_frames_are_embedded_in_bounded_batches(clip, source, monkeypatch, backbone):
    sizes, towers = [], load(str(clip), "cpu")
    embed = towers.network.get_image_features
    monkeypatch.setattr(_image_text, "FRAMES_PER_BATCH", 2)

    def watched(pixel_values):
        sizes.append(len(pixel_values))
        return embed(pixel_values)

    monkeypatch.setattr(towers.network, "get_image_features", watched)
    embedded = DualEncoder(str(clip)).prepare(source[0], backbone)["frames"]
    assert sizes == [2, 2, 1] and embedded.shape == (5, 24)
    alone = [towers.embed_frames(frame[None])[0] for frame in source[0].frames]
    torch.testing.assert_close(embedded, torch.stack(alone), atol=1e-6, rtol=0)
    torch.testing.assert_close(embedded.norm(dim=-1), torch.ones(5))


# Features and weights belong together


def test_features_of_other_weights_are_refused(tmp_path, backbone, source):
    """The same path with a new checkpoint behind it."""
    oracle = DualEncoder(str(save_clip(tmp_path / "model")))
    index = index_of(backbone, Identity(), source, oracles=(oracle,))
    load.cache_clear()
    fingerprint.cache_clear()
    save_clip(tmp_path / "model", seed=1)
    with pytest.raises(X2LError, match="the index holds no features for it") as caught:
        oracle.score(QUESTION, index, backbone)
    assert "Pipeline.with_features" in str(caught.value)
    again = index_of(backbone, Identity(), source, oracles=(oracle,))
    assert oracle.score(QUESTION, again, backbone).isfinite().all()


def test_where_the_checkpoint_lies_and_how_it_is_asked_is_no_matter(tmp_path, monkeypatch, backbone, source):
    save_clip(tmp_path / "one")
    moved = save_clip(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    index = index_of(backbone, Identity(), source, oracles=(DualEncoder("one"),))
    asked = DualEncoder(str(moved), pool="max", device="cpu")
    assert asked.score(QUESTION, index, backbone).isfinite().all()


def test_a_chunk_without_frames_is_one_clear_line(clip, source, backbone):
    with pytest.raises(X2LError, match="oracle dual_encoder: chunk 3 holds no frames"):
        DualEncoder(str(clip)).prepare(replace(source[3], frames=None), backbone)


# What cannot be loaded


def damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)


def lacking(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_temporal_attention(folder: Path) -> None:
    """As LanguageBind's video towers, which CLIPModel would load without what makes them one."""
    weights = load_file(folder / "model.safetensors")
    weights["vision_model.encoder.layers.0.temporal_embedding"] = torch.zeros(1, 8, 32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def of_type(name: str, **fields):
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": name} | fields))

    return change


def ending_elsewhere(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 0
    (folder / "config.json").write_text(json.dumps(config))


def text_only(folder: Path) -> None:
    BertModel(BertConfig(vocab_size=20, **TEXT)).save_pretrained(folder)


def misplaced_pixels(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("{")


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (damaged, "cannot be loaded"),
        (lacking, "it lacks 1 weights, such as text_projection.weight"),
        (with_temporal_attention, "it also holds 1 weights, such as vision_model.encoder.layers.0.temporal"),
        (pickled, "no file named model.safetensors"),
        (without_tokenizer, "its tokenizer knows no words"),
        (text_only, "its type is bert, expected one of clip, siglip, siglip2, blip"),
        (of_type("nonesuch"), "cannot be loaded"),
        (of_type("own", auto_map={"AutoConfig": "own.OwnConfig"}), "cannot be loaded"),
        (ending_elsewhere, "text_config.eos_token_id is 0"),
        (misplaced_pixels, "cannot be loaded"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_checkpoint_is_one_line_that_names_the_field(tmp_path, source, break_it, reason, backbone):
    break_it(save_clip(tmp_path / "model"))
    (tmp_path / "model" / "own.py").write_text("raise SystemExit('remote code was run')")
    with pytest.raises(X2LError) as caught:
        DualEncoder(str(tmp_path / "model")).prepare(source[0], backbone)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"oracle.model: {tmp_path / 'model'} cannot be loaded, ") and reason in line


@pytest.mark.parametrize("name", ["no/such/folder", "no such folder"])
def test_what_is_neither_a_folder_nor_a_name_on_the_hub_is_one_line(source, name, backbone):
    with pytest.raises(X2LError) as caught:
        DualEncoder(name).prepare(source[0], backbone)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"oracle.model: {name!r} is neither a checkpoint folder nor a model on the hub")


def test_a_model_of_the_hub_is_taken_from_its_local_copy(clip, tmp_path, source, monkeypatch, backbone):
    """The hub's own layout on disk, without a network."""
    copy = tmp_path / "models--someone--small-clip"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (copy / "refs").mkdir(parents=True)
    (copy / "refs" / "main").write_text(commit)
    (copy / "snapshots").mkdir()
    (copy / "snapshots" / commit).symlink_to(clip)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    features = [DualEncoder(name).prepare(source[0], backbone) for name in ("someone/small-clip", str(clip))]
    assert torch.equal(features[0]["frames"], features[1]["frames"])
    with pytest.raises(X2LError, match="neither a checkpoint folder nor a model on the hub"):
        DualEncoder("someone/absent").prepare(source[0], backbone)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_one_line(clip, source, backbone):
    with pytest.raises(X2LError, match=r"^oracle\.device: 'cuda' cannot be used"):
        DualEncoder(str(clip), device="cuda").prepare(source[0], backbone)


# The embedded checkpoint


def test_the_embedded_oracle_finds_the_scene_of_a_detail(backbone):
    """A fresh video of 12 scenes over footage that training never saw."""
    video, oracle = NeedleVideos(seed=11, chunks=12, seconds_per_scene=2, fps=1.0), DualEncoder()
    frames, no_tokens = np.stack(list(video.frames(0))), torch.zeros(8, 64)
    pairs = [Chunk(i, np.arange(2.0) + 2 * i, no_tokens, frames[2 * i : 2 * i + 2]) for i in range(12)]
    made = [
        replace(bare, features={oracle.key: oracle.prepare(chunk, backbone)})
        for bare, chunk in zip(bare_index(12).chunks, pairs, strict=True)
    ]
    index = replace(bare_index(12), chunks=tuple(made))
    questions = video.questions(0, {"detail": 20})
    found = [
        int(question.gold_spans_s[0][0] // 2) in oracle.score(question, index, backbone).topk(3).indices
        for question in questions
    ]
    assert len(found) == 20 and np.mean(found) >= 0.9  # by chance 0.25


def test_the_embedded_checkpoint_is_small():
    assert bytes_in(WEIGHTS) < 3.5e6
    assert {tensor.dtype for tensor in load_file(WEIGHTS / "model.safetensors").values()} == {torch.float16}


# Training: data


OPTIONS = SceneOptions(
    videos=2,
    scenes=4,
    frames_per_scene=2,
    unique_pairs=10,
    filler_pairs=4,
    questions={"detail": 2, "scoped": 2, "pair": 1, "before": 2},
)


def scenes_of(num_steps: int = 3, **fields) -> SceneBatches:
    return SceneBatches(OPTIONS, question_tokenizer(), image_size=32, num_steps=num_steps, seed=5, **fields)


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    return scenes_of().batch(0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_follow_from_seed_and_step_whoever_makes_them(num_workers):
    batches = list(DataLoader(scenes_of(first_step=1), batch_size=None, num_workers=num_workers))
    assert len(batches) == 2
    for step, made in enumerate(batches, start=1):
        for name, part in vars(scenes_of().batch(step)).items():
            same = torch.equal if isinstance(part, torch.Tensor) else list.__eq__
            assert same(getattr(made, name), part), name


def test_a_batch_holds_scenes_and_the_questions_about_them(batch):
    assert batch.pixels.shape == (2, 4, 2, 3, 32, 32)
    assert set(batch.kinds) == set(OPTIONS.questions) and set(batch.video.tolist()) == {0, 1}
    for kind, names_card, gold in zip(batch.kinds, batch.names_card, batch.gold, strict=True):
        assert gold.sum() == (2 if kind in ("pair", "before") else 1)
        assert names_card == (kind != "before")
    ends = batch.ids.gather(1, batch.mask.sum(dim=1, keepdim=True) - 1)
    assert (ends == question_tokenizer().eos_token_id).all()


def test_a_step_without_a_possible_question_is_named():
    data = replace(scenes_of(), options=replace(OPTIONS, unique_pairs=0, questions={"detail": 3}))
    with pytest.raises(X2LError, match="step 0: no question of detail fits a video of 4 scenes"):
        data.batch(0)


# Training: loss


def test_the_loss_is_the_cross_entropy_of_each_gold_scene(batch):
    logits = torch.randn(len(batch.kinds), 2, 4, 2, generator=torch.Generator().manual_seed(0))
    losses = []
    for row, gold, video, kind in zip(logits, batch.gold, batch.video.tolist(), batch.kinds, strict=True):
        scenes = row.exp().sum(dim=-1).log()
        scenes = scenes[[video]] if kind == "before" else scenes
        place = 0 if kind == "before" else video
        targets = [4 * place + scene for scene in gold.nonzero()[:, 0].tolist()]
        losses.append(
            torch.stack([cross_entropy(scenes.flatten()[None], torch.tensor([t])) for t in targets]).mean()
        )
    torch.testing.assert_close(retrieval_loss(logits, batch), torch.stack(losses).mean())


def test_recall_counts_gold_scenes_of_the_own_video(batch):
    perfect = (own_video(batch)[..., None] & batch.gold[:, None]).float()[..., None].expand(-1, -1, -1, 2)
    best, worst = recalls(perfect, batch), recalls(-perfect, batch)
    assert best["recall@3"] == 1 and best["recall@1/detail"] == 1 and best["recall@1/pair"] == 0.5
    assert worst["recall@1"] == 0 and worst["recall@3/detail"] == 0 and worst["recall@3/before"] == 0.5


@torch.no_grad()
def test_training_scores_as_the_oracle_does(batch, tmp_path):
    """The cosines of the loss, of padded questions, are those of the towers that the oracle loads."""
    network = CLIPModel.from_pretrained(save_clip(tmp_path, max_tokens=64))
    cosines = DualEncoderModule(network, 1, 0.01, 0.001, 0.5).cosines(batch)
    towers = load(str(tmp_path), "cpu")
    images = towers.network.get_image_features(batch.pixels.flatten(0, 2)).pooler_output
    for ids, row in zip(batch.ids, cosines, strict=True):
        text = towers.embed_text(question_tokenizer().decode(ids, skip_special_tokens=True))
        torch.testing.assert_close(row.flatten(), normalize(images, dim=-1) @ text, atol=1e-5, rtol=0)


def test_the_image_tower_starts_from_that_of_the_backbone():
    tower = X2LTiny.from_pretrained().model.model.vision_tower.vision_tower.vision_model
    sizes = DualEncoderSizes(TextSizes(**TEXT, max_position_embeddings=16), projection_dim=24)
    network = new_dual_encoder(sizes, tower, question_tokenizer())
    mine, theirs = network.vision_model.state_dict(), tower.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert network.config.vision_config.image_size == 96


# Training: the whole command


TOY = {
    "train": "dual_encoder",
    "seed": 3,
    "checkpoint_every": 2,
    "accelerator": "cpu",
    "model": {"text": TEXT | {"max_position_embeddings": 64}, "projection_dim": 24},
    "data": vars(OPTIONS),
    "num_steps": 5,
    "muon_lr": 0.02,
    "adamw_lr": 0.002,
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


def test_a_run_leaves_a_log_and_a_release_that_the_oracle_loads(unbroken, source, backbone):
    lines = read_log(unbroken / "towers" / "log.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert {"loss", "recall@1", "recall@3", "recall@1/scoped"} <= lines[0].keys()
    released, trained = (
        load_file(unbroken / name / "model.safetensors") for name in ("dual_encoder", "towers")
    )
    assert all(torch.equal(released[name], trained[name].half()) for name in trained)
    assert DualEncoder(str(unbroken / "dual_encoder")).prepare(source[0], backbone)["frames"].shape == (5, 24)


class Killed(BaseException):
    """As sudden as a signal: nothing in between handles it."""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(recipe, unbroken, tmp_path, monkeypatch):
    made, whole = [], SceneBatches.batch

    def killing(self, step):
        made.append(step)
        if len(made) > 3:
            raise Killed
        return whole(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(SceneBatches, "batch", killing)
        with pytest.raises(Killed):
            run(recipe, tmp_path)
    assert steps_done(tmp_path / "towers") == 2 and not (tmp_path / "dual_encoder").exists()
    assert run(recipe, tmp_path) == 0
    assert read_log(tmp_path / "towers" / "log.jsonl") == read_log(unbroken / "towers" / "log.jsonl")
    weights, expected = (load_file(out / "towers" / "model.safetensors") for out in (tmp_path, unbroken))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_the_shipped_recipe_can_be_run():
    recipe = DualEncoderRecipe.load(RECIPES / "train_dual_encoder.yaml")
    data = SceneBatches(recipe.data, question_tokenizer(), 96, recipe.num_steps, recipe.seed)
    assert data.batch(0).ids.shape[1] <= recipe.model.text.max_position_embeddings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train": "dual_encodr"},
            "train: dual_encodr: unknown, expected one of dual_encoder, video_qa, x2l_tiny",
        ),
        ({"train": ["dual_encoder"]}, "train: ['dual_encoder']: unknown, expected one of dual_encoder"),
        ({"steps": 3}, "steps: unknown"),
        ({"num_steps": 0}, "num_steps: expected a positive number, got 0"),
        ({"muon_lr": "fast"}, "muon_lr: expected float, got 'fast'"),
        ({"seed": -1}, "seed: expected an integer from 0 to 2^32 - 1"),
        ({"flat_share": 1.5}, "flat_share: expected a number from 0 to 1"),
        ({"data": vars(OPTIONS) | {"scenes": 1}}, "data.scenes: expected 2 or more"),
        ({"data": vars(OPTIONS) | {"videos": 0}}, "data.videos: expected a positive number"),
        ({"data": vars(OPTIONS) | {"questions": {"count": 1}}}, "data.questions.count: unknown"),
        ({"data": vars(OPTIONS) | {"questions": {"pair": -1}}}, "data.questions.pair: expected 0 or more"),
        ({"model": {"text": TEXT, "projection_dim": 8}}, "model.text.max_position_embeddings: missing"),
        (
            {
                "model": {
                    "text": TEXT | {"max_position_embeddings": 9, "hidden_size": 33},
                    "projection_dim": 8,
                }
            },
            "model.text.hidden_size: expected a multiple of num_attention_heads (2)",
        ),
    ],
    ids=str,
)
def test_a_malformed_recipe_is_one_line_that_names_the_field(tmp_path, capsys, changes, message):
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(TOY | changes))
    assert run(tmp_path / "bad.yaml", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "bad.yaml" in line and message in line
    assert not (tmp_path / "out").exists()
