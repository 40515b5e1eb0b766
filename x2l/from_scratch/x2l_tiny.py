"""Train the embedded backbone: its tower and projector, then its language model and VSTs.

Every stage leaves fp32 weights, log.jsonl and a Lightning checkpoint from which a stopped run goes on.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from x2l.backbones.video_xl import VideoXL
from x2l.from_scratch.curriculum import Curriculum
from x2l.from_scratch.frames import NeedleFrames
from x2l.from_scratch.language import LanguageModule
from x2l.from_scratch.needle_batches import NeedleBatches
from x2l.from_scratch.recipe import ModelSizes, TinyRecipe
from x2l.from_scratch.stages import release_stage, train_stage
from x2l.from_scratch.start import start_language_model
from x2l.from_scratch.vision import VisionModule
from x2l.needles.vocabulary import build_tokenizer
from x2l.networks.video_xl import VideoXLConfig, VideoXLForCausalLM
from x2l.training.checkpoint import is_complete, save
from x2l.training.loop import steps_done


def fit_x2l_tiny(recipe: TinyRecipe, out: Path, num_workers: int) -> Path:
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
        release_stage(backbone.model, backbone.tokenizer, released, recipe.language.compresses)
    return released


def _fit_vision(recipe: TinyRecipe, folder: Path, num_workers: int) -> None:
    torch.manual_seed(recipe.seed)
    options, tokenizer = recipe.vision, build_tokenizer()
    network = new_network(recipe.model, tokenizer)
    # The fused kernel's backward pass is slow for sequences as short as a frame's patches.
    network.model.vision_tower.vision_tower.vision_model.set_attn_implementation("eager")
    module = VisionModule(network, options.num_steps, options.muon_lr, options.adamw_lr)
    image_size, first = recipe.model.vision_config.image_size, steps_done(folder)
    data = NeedleFrames(image_size, options.batch_size, options.num_steps, recipe.seed, first)
    train_stage(module, data, recipe, folder, num_workers)
    save(network, tokenizer, folder)


def _fit_language(recipe: TinyRecipe, vision: Path, folder: Path, num_workers: int) -> None:
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
    train_stage(module, data, recipe, folder, num_workers)
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
