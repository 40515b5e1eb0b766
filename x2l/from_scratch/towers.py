"""Train the embedded towers of the oracle dual_encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPModel

from x2l.backbones.x2l_tiny import X2LTiny
from x2l.from_scratch.dual_encoder import DualEncoderModule, new_dual_encoder, question_tokenizer
from x2l.from_scratch.dual_encoder_recipe import DualEncoderRecipe
from x2l.from_scratch.scene_batches import SceneBatches
from x2l.from_scratch.stages import release_stage, train_stage
from x2l.training.checkpoint import is_complete, save
from x2l.training.loop import steps_done


def fit_dual_encoder(recipe: DualEncoderRecipe, out: Path, num_workers: int) -> Path:
    """The stage out/towers, and out/dual_encoder with the weights that are shipped."""
    towers, released = out / "towers", out / "dual_encoder"
    if not is_complete(towers):
        _fit_towers(recipe, towers, num_workers)
    if not is_complete(released):
        release_stage(CLIPModel.from_pretrained(towers), question_tokenizer(), released)
    return released


def _fit_towers(recipe: DualEncoderRecipe, folder: Path, num_workers: int) -> None:
    torch.manual_seed(recipe.seed)
    backbone, tokenizer = X2LTiny.from_pretrained(recipe.model.tower), question_tokenizer()
    tower = backbone.model.model.vision_tower.vision_tower.vision_model
    network = new_dual_encoder(recipe.model, tower, tokenizer)
    network.set_attn_implementation("eager")  # as in _fit_vision
    module = DualEncoderModule(network, recipe.num_steps, recipe.muon_lr, recipe.adamw_lr, recipe.flat_share)
    image_size, first = tower.config.image_size, steps_done(folder)
    data = SceneBatches(recipe.data, tokenizer, image_size, recipe.num_steps, recipe.seed, first)
    train_stage(module, data, recipe, folder, num_workers)
    save(network, tokenizer, folder)
