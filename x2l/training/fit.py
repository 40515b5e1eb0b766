"""`x2l fit`: from a recipe to a checkpoint folder, stage by stage, resumable."""

from __future__ import annotations

from pathlib import Path

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from x2l.backbones._video_xl_model import VideoXLConfig, VideoXLForCausalLM
from x2l.backbones.video_xl import VideoXL
from x2l.needles.vocabulary import build_tokenizer
from x2l.training.curriculum import Curriculum, Stage
from x2l.training.frames import NeedleFrames
from x2l.training.language import LanguageModule
from x2l.training.needle_batches import NeedleBatches
from x2l.training.start import start_language_model
from x2l.training.vision import VisionModule


def fit(recipe_path: Path, out: Path, num_workers: int = 1) -> Path:
    """Run the recipe's stages that are not done yet; returns the folder of the last checkpoint.

    Each stage leaves a checkpoint folder (out/vision, out/language) that `x2l ask` can load, and a
    Lightning checkpoint every `checkpoint_every` steps from which a killed run goes on.
    """
    recipe = yaml.safe_load(recipe_path.read_text())
    lightning.seed_everything(recipe["seed"], workers=True)
    vision = out / "vision"
    if not (vision / "config.json").is_file():
        _fit_vision(recipe, vision, num_workers)
    language = out / "language"
    if not (language / "config.json").is_file():
        _fit_language(recipe, vision, language, num_workers)
    return language


def _fit_vision(recipe: dict, folder: Path, num_workers: int) -> None:
    tokenizer = build_tokenizer()
    options = recipe["vision"]
    network = new_network(recipe["model"], tokenizer)
    # The fused kernel's backward pass is slow for sequences as short as a frame's patches.
    network.model.vision_tower.vision_tower.vision_model.set_attn_implementation("eager")
    module = VisionModule(network, options["num_steps"], options["muon_lr"], options["adamw_lr"])
    resume, first = _resume(folder)
    data = NeedleFrames(
        network.config.vision.image_size, options["batch_size"], options["num_steps"], recipe["seed"], first
    )
    _run(module, data, recipe, folder, resume, num_workers)
    _save(network, tokenizer, folder)


def _fit_language(recipe: dict, vision: Path, folder: Path, num_workers: int) -> None:
    options = recipe["language"]
    backbone = VideoXL.from_pretrained(str(vision))
    curriculum = Curriculum([Stage(**stage) for stage in options["stages"]], recipe["seed"])
    module = LanguageModule(
        backbone, curriculum, options["muon_lr"], options["adamw_lr"], options["retrieval_weight"]
    )
    resume, first = _resume(folder)
    if first == 0:
        visual_tokens = next(iter(NeedleBatches(curriculum, backbone))).visual_tokens
        start_language_model(backbone.model, visual_rms=visual_tokens.square().mean().sqrt().item())
    _run(module, NeedleBatches(curriculum, backbone, first), recipe, folder, resume, num_workers)
    _save(backbone.model, backbone.tokenizer, folder)


def new_network(model: dict, tokenizer) -> VideoXLForCausalLM:
    """A random network of the recipe's sizes with VST projections that start as copies of the others."""
    config = VideoXLConfig(
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **model,
    )
    return VideoXLForCausalLM(config)


def _run(module, data, recipe: dict, folder: Path, resume: Path | None, num_workers: int) -> None:
    trainer = lightning.Trainer(
        accelerator="cpu",
        precision=recipe["precision"],
        max_epochs=1,
        logger=CSVLogger(folder, name="log", version=""),
        callbacks=[
            ModelCheckpoint(
                folder,
                filename="last",
                every_n_train_steps=recipe["checkpoint_every"],
                enable_version_counter=False,
            ),
            TQDMProgressBar(refresh_rate=50),
        ],
        log_every_n_steps=10,
        enable_model_summary=False,
    )
    loader = DataLoader(
        data, batch_size=None, num_workers=num_workers, prefetch_factor=8 if num_workers else None
    )
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True if resume else None)


def _resume(folder: Path) -> tuple[Path | None, int]:
    """The Lightning checkpoint to go on from, and how many steps it has behind it."""
    path = folder / "last.ckpt"
    if not path.is_file():
        return None, 0
    return path, torch.load(path, weights_only=True, map_location="cpu")["x2l_step"]


def _save(network, tokenizer, folder: Path) -> None:
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    import sys

    torch.set_num_threads(int(__import__("os").environ.get("OMP_NUM_THREADS", 1)))
    fit(Path(sys.argv[1]), Path(sys.argv[2]))
