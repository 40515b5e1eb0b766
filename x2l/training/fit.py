"""`x2l fit`: from a recipe to a checkpoint folder, stage by stage, resumable.

Every stage leaves fp32 weights, log.jsonl and a Lightning checkpoint from which a stopped run goes on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import click
import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only
from transformers import CLIPModel, PreTrainedModel, PreTrainedTokenizerBase

from x2l.backbones.video_xl import VideoXL
from x2l.backbones.x2l_tiny import X2LTiny
from x2l.config.settings import first_difference, read_settings
from x2l.errors import X2LError, unknown
from x2l.needles.vocabulary import build_tokenizer
from x2l.networks.video_xl import VideoXLConfig, VideoXLForCausalLM
from x2l.storage.files import alone_in, make_folder, read_json, write_json, write_text
from x2l.training.checkpoint import is_complete, num_bytes, release, save
from x2l.training.curriculum import Curriculum
from x2l.training.dual_encoder import DualEncoderModule, new_dual_encoder, question_tokenizer
from x2l.training.dual_encoder_recipe import DualEncoderRecipe
from x2l.training.frames import NeedleFrames
from x2l.training.language import LanguageModule
from x2l.training.loop import steps_done, train
from x2l.training.module import TrainingModule
from x2l.training.needle_batches import NeedleBatches
from x2l.training.post_training import fit_video_qa
from x2l.training.qa_recipe import VideoQARecipe
from x2l.training.recipe import ModelSizes, Recipe, TrainingRecipe
from x2l.training.scene_batches import SceneBatches
from x2l.training.start import start_language_model
from x2l.training.vision import VisionModule

RECIPE, RESOLVED = "recipe.json", "recipe.yaml"


def fit(recipe_path: Path, out: Path, num_workers: int = 1, overrides: Sequence[str] = ()) -> Path:
    """Train what the recipe's `train` names, where that is not done yet; returns the released checkpoint.

    overrides: "dotted.key=value", values are YAML.
    Raises X2LError naming the field of the recipe that is wrong, or not the one that `out` was begun with,
    and if another run trains in `out`.
    """
    name = str(read_settings(recipe_path).get("train", "x2l_tiny"))
    if name not in TRAINED:
        raise unknown(f"recipe {recipe_path}: train: {name}", name, TRAINED)
    kind, run = TRAINED[name]
    recipe = kind.load(recipe_path, overrides)
    recipe.check_data()
    make_folder(out)
    with alone_in(out) if _is_first_process() else nullcontext():
        _go_on_only_with_the_same(recipe, out)
        _show(recipe, out / RESOLVED)
        return run(recipe, out, num_workers)


def _is_first_process() -> bool:
    """Of those that train together, as far as can be known before they meet."""
    return rank_zero_only.rank == 0 and os.environ.get("NODE_RANK", "0") == "0"


def _go_on_only_with_the_same(recipe: Recipe, out: Path) -> None:
    """Keep the recipe beside what it trains; raise X2LError if another one began there."""
    path, data = out / RECIPE, recipe.decisive()
    if not path.is_file():
        write_json(path, data)
    elif field := first_difference(read_json(path), data):
        raise X2LError(f"{field}: {out} was begun with another value, expected that of {path}")


def _show(recipe: Recipe, path: Path) -> None:
    """The whole recipe with its defaults, for people; the newest, where one that decides nothing changed."""
    text = yaml.safe_dump(recipe.to_mapping(), sort_keys=False)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _fit_x2l_tiny(recipe: TrainingRecipe, out: Path, num_workers: int) -> Path:
    """The stages out/vision and out/language, and out/x2l_tiny with the weights that are shipped.

    `x2l ask` loads each.
    """
    vision, language, released = (out / name for name in ("vision", "language", "x2l_tiny"))
    if not is_complete(vision):
        _fit_vision(recipe, vision, num_workers)
    if not is_complete(language):
        _fit_language(recipe, vision, language, num_workers)
    if not is_complete(released):
        backbone = VideoXL.from_pretrained(str(language))
        _release(backbone.model, backbone.tokenizer, released, recipe.language.compresses)
    return released


def _fit_dual_encoder(recipe: DualEncoderRecipe, out: Path, num_workers: int) -> Path:
    """The stage out/towers, and out/dual_encoder with the weights that are shipped."""
    towers, released = out / "towers", out / "dual_encoder"
    if not is_complete(towers):
        _fit_towers(recipe, towers, num_workers)
    if not is_complete(released):
        _release(CLIPModel.from_pretrained(towers), question_tokenizer(), released)
    return released


def _fit_video_qa(recipe: VideoQARecipe, out: Path, num_workers: int) -> Path:
    return fit_video_qa(recipe, out, _accelerator(recipe.accelerator), num_workers)


TRAINED = {
    "x2l_tiny": (TrainingRecipe, _fit_x2l_tiny),
    "dual_encoder": (DualEncoderRecipe, _fit_dual_encoder),
    "video_qa": (VideoQARecipe, _fit_video_qa),
}
"""What can be trained: the recipe's class and the function that follows it."""


def _release(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, with_vsts: bool = True
) -> None:
    release(network, tokenizer, folder, with_vsts)
    click.echo(f"x2l: {folder}: {num_bytes(folder) / 1e6:.1f} MB", err=True)


def _fit_towers(recipe: DualEncoderRecipe, folder: Path, num_workers: int) -> None:
    torch.manual_seed(recipe.seed)
    backbone, tokenizer = X2LTiny.from_pretrained(recipe.model.tower), question_tokenizer()
    tower = backbone.model.model.vision_tower.vision_tower.vision_model
    network = new_dual_encoder(recipe.model, tower, tokenizer)
    network.set_attn_implementation("eager")  # as in _fit_vision
    module = DualEncoderModule(network, recipe.num_steps, recipe.muon_lr, recipe.adamw_lr, recipe.flat_share)
    image_size, first = tower.config.image_size, steps_done(folder)
    data = SceneBatches(recipe.data, tokenizer, image_size, recipe.num_steps, recipe.seed, first)
    _train(module, data, recipe, folder, num_workers)
    save(network, tokenizer, folder)


def _fit_vision(recipe: TrainingRecipe, folder: Path, num_workers: int) -> None:
    torch.manual_seed(recipe.seed)
    options, tokenizer = recipe.vision, build_tokenizer()
    network = new_network(recipe.model, tokenizer)
    # The fused kernel's backward pass is slow for sequences as short as a frame's patches.
    network.model.vision_tower.vision_tower.vision_model.set_attn_implementation("eager")
    module = VisionModule(network, options.num_steps, options.muon_lr, options.adamw_lr)
    image_size, first = recipe.model.vision_config.image_size, steps_done(folder)
    data = NeedleFrames(image_size, options.batch_size, options.num_steps, recipe.seed, first)
    _train(module, data, recipe, folder, num_workers)
    save(network, tokenizer, folder)


def _fit_language(recipe: TrainingRecipe, vision: Path, folder: Path, num_workers: int) -> None:
    torch.manual_seed(recipe.seed)
    options, backbone = recipe.language, VideoXL.from_pretrained(str(vision))
    curriculum = Curriculum(options.stages, recipe.seed, backbone.geometry.tokens_per_frame)
    module = LanguageModule(
        backbone,
        curriculum,
        options.muon_lr,
        options.adamw_lr,
        options.retrieval_weight,
        options.flat_share,
    )
    # The frozen tower works in the loading processes, on the CPU, wherever the language model is trained.
    reader, in_bf16 = VideoXL.from_pretrained(str(vision)), recipe.precision == "bf16-mixed"
    data = NeedleBatches(curriculum, reader, steps_done(folder), in_bf16)
    if data.first_step == 0:
        rms = data.batch(0).visual_tokens.square().mean().sqrt().item()
        start_language_model(backbone.model, visual_rms=rms, previous_word_head=options.previous_word_head)
    _train(module, data, recipe, folder, num_workers)
    save(backbone.model, backbone.tokenizer, folder, options.compresses)


def new_network(sizes: ModelSizes, tokenizer: PreTrainedTokenizerBase) -> VideoXLForCausalLM:
    """A random network of the recipe's sizes."""
    config = VideoXLConfig(
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **asdict(sizes),
    )
    return VideoXLForCausalLM(config)


def _train(module: TrainingModule, data, recipe: Recipe, folder: Path, num_workers: int) -> None:
    train(
        module,
        data,
        folder,
        accelerator=_accelerator(recipe.accelerator),
        precision=recipe.precision,
        checkpoint_every=recipe.checkpoint_every,
        num_workers=num_workers,
    )


def _accelerator(name: str) -> str:
    has_cuda = torch.cuda.is_available()
    if name == "gpu" and not has_cuda:
        raise X2LError("accelerator: expected auto or cpu, this PyTorch sees no CUDA device")
    return ("gpu" if has_cuda else "cpu") if name == "auto" else name
