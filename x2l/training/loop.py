"""Lightning's loop over one stage: resumable, logged, and quiet about what is meant to be so."""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, get_worker_info
from tqdm import tqdm

from x2l.errors import X2LError
from x2l.storage.hub import one_line

LAST, LOG = "last.ckpt", "log.jsonl"

HARMLESS_WARNINGS = (
    r".*does not have many workers.*",  # the recipe's user chose how many
    r".*`IterableDataset` has `__len__` defined.*",  # each worker makes every n-th batch
    r".*dataloader is not resumable.*",  # batch i depends on the seed and i only
    r".*module\(s\) in eval mode.*",  # there is no dropout: both modes are the same
    r".*Total length of `list` across ranks is zero.*",  # there are no held-out questions
    r".*callbacks used to create the checkpoint.*",  # other loggers bring others
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # Lightning's own call into torch
)


@runtime_checkable
class CountsSteps(Protocol):
    """A LightningModule that knows how far it is: optimiser steps behind it, and of the whole run."""

    step: int
    num_steps: int


def train(
    module: CountsSteps,
    data: Iterable | lightning.LightningDataModule,
    folder: Path,
    *,
    accelerator: str = "cpu",
    precision: str = "32-true",
    checkpoint_every: int = 500,
    num_workers: int = 0,
    callbacks: Sequence[Callback] = (),
    may_end_early: bool = False,
    **options: Any,
) -> lightning.Trainer:
    """Run the batches of `data`, which starts at the step where the checkpoint in `folder` ends.

    Leaves last.ckpt every `checkpoint_every` steps, and log.jsonl with one line per batch.
    may_end_early: a callback may stop it.
    options: those of Lightning's Trainer (strategy, devices, logger, ...).
    Raises KeyboardInterrupt where the user stops it, and what the data raises.
    """
    checkpoint = last_checkpoint(folder)
    own = [StepLog(folder), StepProgress(folder.name), StepCheckpoint(folder, checkpoint_every)]
    with _quiet():
        trainer = _trainer(
            accelerator=accelerator,
            precision=precision,
            # Checkpoints last: they hold what the others know behind this step.
            callbacks=[*callbacks, *own],
            default_root_dir=folder,
            **options,
        )
        try:
            is_module = isinstance(data, lightning.LightningDataModule)
            source = data if is_module else _loader(data, num_workers)
            trainer.fit(module, source, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
        except SystemExit as stop:  # how Lightning ends after Ctrl-C
            raise KeyboardInterrupt from stop
        except X2LError as error:  # with a traceback in it, if it comes from a loading process
            raise X2LError(str(error).strip().rpartition("X2LError: ")[2]) from error
    # A stage that ended early must not pass for complete.
    is_complete = module.step == module.num_steps
    assert is_complete or may_end_early, f"{folder}: {module.step} of {module.num_steps} steps"
    return trainer


def _trainer(**options: Any) -> lightning.Trainer:
    """For one pass over data that is a whole run. Raises X2LError for what Lightning cannot do here."""
    # Some strategies gather weights for a look, and keep them for the step behind it.
    ours = {"max_epochs": 1, "devices": 1, "logger": False, "inference_mode": False}
    switched_off = ("enable_checkpointing", "enable_model_summary", "enable_progress_bar")
    try:
        return lightning.Trainer(**ours | dict.fromkeys(switched_off, False) | options)
    except (ValueError, ImportError, MisconfigurationException) as error:
        asked = options.get("strategy", "auto")
        name = asked if isinstance(asked, str) else type(asked).__name__
        message = f"strategy {name} on {options.get('devices', 1)} devices cannot be used"
        raise X2LError(f"{message}, {one_line(error)}") from error


def _loader(data: Iterable, num_workers: int) -> DataLoader:
    prefetch = 8 if num_workers else None
    return DataLoader(data, batch_size=None, num_workers=num_workers, prefetch_factor=prefetch)


def own_steps(first: int, end: int) -> range:
    """The steps from `first` to `end` that this loading process makes: every n-th where there are n."""
    worker = get_worker_info()
    offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
    return range(first + offset, end, stride)


def last_checkpoint(folder: Path) -> Path | None:
    """From which a stopped run goes on: a file, or a folder, as some strategies write it."""
    path = folder / LAST
    return path if path.exists() else None


def steps_done(folder: Path) -> int:
    """How many steps the Lightning checkpoint in a stage's folder has behind it; 0 without one.

    A stage of an embedded checkpoint is trained by one process, so it is a file.
    """
    path = last_checkpoint(folder)
    if path is None:
        return 0
    return torch.load(path, weights_only=True, map_location="cpu", mmap=True)["x2l_step"]


class StepCheckpoint(Callback):
    """Keeps the newest Lightning checkpoint: Lightning's own counts each optimizer's steps."""

    def __init__(self, folder: Path, every: int):
        self.folder, self.every = folder, every

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx: int) -> None:
        # Between two steps, gradients are under way that a checkpoint does not hold. A look at held-out data
        # that comes next must be behind it, or a resumed run would leave it out.
        looks_next = bool(trainer.val_dataloaders) and (batch_idx + 1) % trainer.val_check_batch == 0
        if ends_step(trainer, batch_idx) and not looks_next:
            self._save_if_due(trainer, module)

    def on_validation_end(self, trainer, module) -> None:
        self._save_if_due(trainer, module)

    def _save_if_due(self, trainer, module) -> None:
        # The first step needs none, and the last: the finished model is written next.
        if module.step % self.every or module.step in (0, module.num_steps):
            return
        partial, last = self.folder / f"{LAST}.partial", self.folder / LAST
        trainer.save_checkpoint(partial, weights_only=False)
        if trainer.is_global_zero:
            if last.is_dir():  # as some strategies write it; a folder is not replaced by another
                shutil.rmtree(last)
            os.replace(partial, last)
        trainer.strategy.barrier()


class StepLog(Callback):
    """Writes what a step returns as one line of JSON: each batch has accuracies of its own shape.

    A logger with columns would repeat the last value of every other shape, and forget them in a resumed run.
    """

    def __init__(self, folder: Path):
        self.path = folder / LOG

    def on_train_start(self, trainer, module) -> None:
        self.path = self.path.with_name(LOG if trainer.is_global_zero else f"log-{trainer.global_rank}.jsonl")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        drop_lines_behind(module.step, self.path)

    def on_train_batch_end(self, trainer, module, outputs: dict[str, Any], batch, batch_idx: int) -> None:
        step = module.step if ends_step(trainer, batch_idx) else module.step + 1
        line = {"step": step} | {name: round(value, 6) for name, value in reported(trainer, outputs).items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class StepProgress(Callback):
    """A bar on stderr, like every other of x2l: Lightning's writes where the command's result goes."""

    def __init__(self, name: str):
        self.name = name

    def on_train_start(self, trainer, module) -> None:
        is_shown = trainer.is_global_zero
        total, initial = module.num_steps, module.step
        self.bar = tqdm(desc=self.name, total=total, initial=initial, mininterval=1, disable=not is_shown)

    def on_train_batch_end(self, trainer, module, outputs: dict[str, Any], *_) -> None:
        figures = reported(trainer, outputs)
        shown = {name: f"{value:.3f}" for name, value in figures.items() if "/" not in name}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(module.step - self.bar.n)

    def on_train_end(self, trainer, module) -> None:
        self.bar.close()

    def on_exception(self, trainer, module, exception: BaseException) -> None:
        """So that what is said next has a line of its own."""
        if hasattr(self, "bar"):
            self.bar.close()


def reported(trainer: lightning.Trainer, outputs: dict[str, Any]) -> dict[str, float]:
    """The report of a training step; Lightning has divided its loss among the batches of a step."""
    figures = {name: float(value) for name, value in outputs.items()}
    return figures | {"loss": figures["loss"] * trainer.accumulate_grad_batches}


def ends_step(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Whether this batch is the last of those whose gradients make one optimiser step."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def read_log(path: Path) -> list[dict[str, int | float]]:
    """The lines of a log.jsonl, without a last one that a kill tore; none where there is no file."""
    if not path.is_file():
        return []
    complete = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in complete.splitlines()]


def drop_lines_behind(step: int, path: Path) -> None:
    """Drops the lines of a log behind `step`, from where training goes on."""
    kept = [line for line in read_log(path) if line["step"] <= step]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


@contextmanager
def _quiet():
    """Without Lightning's notes on devices and without warnings that are not about anything wrong."""
    logs = [logging.getLogger(f"lightning.{part}.utilities.rank_zero") for part in ("pytorch", "fabric")]
    levels = [log.level for log in logs]
    with warnings.catch_warnings():
        for message in HARMLESS_WARNINGS:
            warnings.filterwarnings("ignore", message)
        for log in logs:
            log.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)


def accelerator_of(name: str) -> str:
    """Lightning's name of it; "auto" is CUDA, if there is a device. Raises X2LError for "gpu" without one."""
    has_cuda = torch.cuda.is_available()
    if name == "gpu" and not has_cuda:
        raise X2LError("accelerator: expected auto or cpu, this PyTorch sees no CUDA device")
    return ("gpu" if has_cuda else "cpu") if name == "auto" else name
