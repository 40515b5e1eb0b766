"""Post-training by a recipe: train parts of a backbone in place, then write a checkpoint that anything loads.

out/last.ckpt              from which a stopped run goes on (what is trained, and the optimiser)
out/trained.safetensors    what was trained, and nothing else; with early_stop, where held-out loss was lowest
out/model/                 the whole network with it, adapters merged: `x2l ask --backbone` loads it
out/compressor.safetensors and the like, of parts that have weights of their own: their key `weights`
out/log.jsonl, out/logs/   one line per video (log-N.jsonl: of process N); CSV and TensorBoard
out/val.jsonl              one line per look at held-out questions, the first before any step
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from safetensors.torch import save as serialized
from torch import Tensor

from x2l.engine.adapters import base_of
from x2l.errors import X2LError
from x2l.interfaces import Backbone
from x2l.recipe import build_pipeline
from x2l.storage.files import make_folder, write_bytes, written_whole
from x2l.storage.hub import checkpoint_folder, one_line
from x2l.training.checkpoint import CONFIG, is_complete, save
from x2l.training.held_out import HeldOutLog
from x2l.training.loop import accelerator_of, last_checkpoint, train
from x2l.training.qa_data import BrokenVideos, VideoQADataModule
from x2l.training.qa_recipe import VideoQARecipe
from x2l.training.start import let_vsts_gather
from x2l.training.trainable import learned_state, merge_adapters
from x2l.training.x2l_module import X2LModule

TRAINED, BEST, MERGED, LOGS = "trained.safetensors", "best.safetensors", "model", "logs"
HELD_OUT_LOSS = "val_loss"
_LOGGERS = {
    "csv": lambda folder: CSVLogger(folder, "csv"),
    "tensorboard": lambda folder: TensorBoardLogger(folder, "tensorboard"),
    "wandb": lambda folder: WandbLogger(save_dir=folder, project="x2l"),
    "mlflow": lambda folder: MLFlowLogger("x2l", save_dir=folder),
}


def fit_video_qa(recipe: VideoQARecipe, out: Path, num_workers: int) -> Path:
    """Train what is not trained yet; returns the folder of the merged checkpoint.

    Raises X2LError naming what of the recipe cannot be built, read or trained.
    """
    if not (out / TRAINED).is_file():
        _train(recipe, out, num_workers)
    # Of the processes that train together, one writes.
    if rank_zero_only.rank == 0 and not is_complete(out / MERGED):
        merge(recipe, out / TRAINED, out / MERGED)
    return out / MERGED


def _train(recipe: VideoQARecipe, out: Path, num_workers: int) -> None:
    lightning.seed_everything(recipe.seed, verbose=False)
    # Data first: weights take minutes to load.
    data = make_data(recipe, num_workers)
    module = make_module(recipe, data, is_begun=last_checkpoint(out) is not None)
    _require_precision(recipe, module)
    trainer = train(
        module,
        data,
        out,
        accelerator=accelerator_of(recipe.accelerator),
        precision=recipe.precision,
        checkpoint_every=recipe.checkpoint_every,
        callbacks=_callbacks(recipe, out),
        may_end_early=recipe.early_stop is not None,
        strategy=strategy(recipe.strategy, recipe.devices * recipe.num_nodes),
        devices=recipe.devices,
        num_nodes=recipe.num_nodes,
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.max_grad_norm,
        val_check_interval=recipe.val_every * recipe.accumulate if recipe.val else None,
        num_sanity_val_steps=-1 if recipe.val else 0,
        logger=_loggers(recipe, out),
        log_every_n_steps=1,
    )
    # One process knows: another may come when the file has been moved.
    if not trainer.strategy.broadcast((out / BEST).is_file()):
        write_trained(trainer, module, out / TRAINED)
    elif trainer.is_global_zero:
        os.replace(out / BEST, out / TRAINED)
    trainer.strategy.barrier()


def _require_precision(recipe: VideoQARecipe, module: X2LModule) -> None:
    """Raise X2LError where fp32 meets half precision: only autocast can multiply both."""
    is_mixed = len({weight.dtype for weight in module.parameters()}) > 1
    if is_mixed and recipe.trains != ["lora"] and recipe.precision == "32-true":
        raise X2LError("precision: expected bf16-mixed with a backbone in half precision, got '32-true'")


def write_trained(
    trainer: lightning.Trainer, module: X2LModule, path: Path, notes: dict[str, str] | None = None
) -> None:
    """Write what is trained, as it is now: fp32 tensors by their names, and notes beside them.

    Names are those in the network; weights of another part are under its slot: "compressor.query", with what
    of it is not trained, because nothing else has kept how it was drawn.
    Every process must call it: some strategies spread the weights.
    """
    state = trainer.strategy.lightning_module_state_dict()
    if trainer.is_global_zero:
        names = learned_state(module)
        parts = {name: state[name] for name in names if name.startswith("parts.")}
        network = {name: state[name].cpu().contiguous() for name in names if name not in parts}
        tensors = {saved_as(name): tensor for name, tensor in (network | _cloned(parts)).items()}
        with written_whole(path) as partial:
            save_file(tensors, partial, notes)  # without a second copy in memory
    trainer.strategy.barrier()


def _cloned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each in memory of its own: a part may hold one twice, which the format refuses."""
    return {name: tensor.cpu().clone().contiguous() for name, tensor in tensors.items()}


def saved_as(name: str) -> str:
    """Name in a file of trained weights, of one in the module that trains them."""
    return name.removeprefix("network.").removeprefix("parts.")


def make_module(recipe: VideoQARecipe, data: VideoQADataModule, is_begun: bool) -> X2LModule:
    """The module that a recipe trains, with the weights loaded; a run that is begun has its own start."""
    pipeline = build_pipeline(recipe.answering.check())
    if recipe.vst_start == "gather" and not is_begun:
        let_vsts_gather(pipeline.backbone, (clip for video in data.train_videos() for clip in video.clips))
    return X2LModule(
        pipeline,
        trains=recipe.trains,
        lora=recipe.lora,
        num_steps=recipe.num_steps,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        warmup_share=recipe.warmup_share,
        levels=recipe.levels,
        plan=recipe.plan,
        recompute=recipe.recompute,
        token_cache=recipe.token_cache,
        seed=recipe.seed,
    )


def make_data(recipe: VideoQARecipe, num_workers: int) -> VideoQADataModule:
    """The questions that a recipe trains on, with frames as its pipeline samples them."""
    return VideoQADataModule(
        recipe.data,
        recipe.val,
        sampling=asdict(recipe.answering.sampling),
        chunk_frames=recipe.answering.chunk_frames,
        num_steps=recipe.num_steps,
        accumulate=recipe.accumulate,
        seed=recipe.seed,
        num_workers=num_workers,
        questions_per_video=recipe.questions_per_video,
        max_broken_share=recipe.max_broken_share,
    )


def merge(recipe: VideoQARecipe, trained: Path, folder: Path) -> None:
    """Write the recipe's backbone with what was trained as a checkpoint folder of its own.

    Weights of other parts lie beside it, a file for each.
    Raises X2LError if the weights are not those that the recipe trains.
    """
    pipeline = build_pipeline(recipe.answering)
    backbone, dtype = pipeline.backbone, pipeline.backbone.model.dtype
    module = X2LModule(pipeline, recipe.trains, recipe.lora, num_steps=recipe.num_steps, levels=recipe.levels)
    state, names = load_file(trained), {saved_as(name): name for name in learned_state(module)}
    if {*names} != {*state}:
        odd = min({*names}.symmetric_difference(state))
        raise X2LError(f"{trained}: expected what the recipe trains, {odd} is in one of them only")
    module.load_state_dict({names[name]: tensor for name, tensor in state.items()}, strict=False)
    for slot, weights in module.parts.items():
        write_bytes(folder.parent / f"{slot}.safetensors", serialized(_cloned(weights.state_dict())))
    merge_adapters(backbone.model)
    _copy_settings(recipe, backbone, folder)
    save(backbone.model.to(dtype), backbone.tokenizer, folder)


def _copy_settings(recipe: VideoQARecipe, backbone: Backbone, folder: Path) -> None:
    """Copies what a checkpoint folder holds besides weights and tokenizer: its processor, its prompts."""
    model = recipe.answering.backbone.get("model") or getattr(type(backbone), "default_model", None)
    make_folder(folder)
    for path in base_of(checkpoint_folder(model, "backbone.model")).iterdir():
        is_setting = path.suffix in (".json", ".jinja") and "safetensors" not in path.name
        if is_setting and path.name != CONFIG:
            write_bytes(folder / path.name, path.read_bytes())


def strategy(name: str, num_processes: int) -> str | Strategy:
    """Lightning's strategy by name, two of them as this training needs them."""
    if name == "ddp" or (name == "auto" and num_processes > 1):
        # Where a video is not compressed VSTs rest, and always their queries in the last layer.
        return DDPStrategy(find_unused_parameters=True)
    if name == "fsdp2":  # a checkpoint is one file, as everywhere
        return ModelParallelStrategy(num_processes, 1, save_distributed_checkpoint=False)
    return name


class KeepBest(Callback):
    """Keeps the weights with the lowest loss on held-out questions, and that loss in their file."""

    def __init__(self, path: Path):
        self.path = path

    def on_validation_end(self, trainer: lightning.Trainer, module: X2LModule) -> None:
        loss = float(trainer.callback_metrics[HELD_OUT_LOSS])
        # One process knows the file: the others may stand on another node.
        if trainer.strategy.broadcast(loss < self._lowest()):
            write_trained(trainer, module, self.path, {HELD_OUT_LOSS: repr(loss)})

    def _lowest(self) -> float:
        if not self.path.is_file():
            return float("inf")
        with safe_open(self.path, "pt") as file:
            return float(file.metadata()[HELD_OUT_LOSS])


def _callbacks(recipe: VideoQARecipe, out: Path) -> list[Callback]:
    callbacks: list[Callback] = [BrokenVideos()]
    if recipe.val:
        callbacks.append(HeldOutLog(out))
    if recipe.loggers:
        callbacks.append(LearningRateMonitor("step"))
    if recipe.early_stop:
        patience = recipe.early_stop.patience
        stop = EarlyStopping(HELD_OUT_LOSS, patience=patience, check_on_train_epoch_end=False)
        callbacks += [KeepBest(out / BEST), stop]
    return callbacks


def _loggers(recipe: VideoQARecipe, out: Path) -> list[Logger]:
    """Raises X2LError for one whose package is not installed."""
    make_folder(out / LOGS)
    try:
        return [_LOGGERS[name](str(out / LOGS)) for name in recipe.loggers]
    except ModuleNotFoundError as error:
        raise X2LError(
            f"loggers: one of {', '.join(recipe.loggers)} is not installed, {one_line(error)}"
        ) from error
