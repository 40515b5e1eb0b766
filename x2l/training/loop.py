"""Lightning's loop over one stage: resumable, logged, and quiet about what is meant to be so."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, get_worker_info
from tqdm import tqdm

from x2l.errors import X2LError
from x2l.training.module import TrainingModule

LAST, LOG = "last.ckpt", "log.jsonl"

HARMLESS_WARNINGS = (
    r".*does not have many workers.*",  # the recipe's user chose how many
    r".*`IterableDataset` has `__len__` defined.*",  # each worker makes every n-th batch
    r".*dataloader is not resumable.*",  # batch i depends on the seed and i only
    r".*module\(s\) in eval mode.*",  # there is no dropout: both modes are the same
    r".*callbacks used to create the checkpoint.*",  # a callback here holds no state
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # Lightning's own call into torch
)


def train(
    module: TrainingModule,
    data: Iterable,
    folder: Path,
    *,
    accelerator: str = "cpu",
    precision: str = "32-true",
    checkpoint_every: int = 500,
    num_workers: int = 0,
) -> None:
    """Run the batches of `data`, which starts at the step where the checkpoint in `folder` ends.

    Leaves last.ckpt every `checkpoint_every` batches, and log.jsonl with one line per batch.
    Raises KeyboardInterrupt where the user stops it, and what the data raises.
    """
    checkpoint = folder / LAST if (folder / LAST).is_file() else None
    prefetch = 8 if num_workers else None
    loader = DataLoader(data, batch_size=None, num_workers=num_workers, prefetch_factor=prefetch)
    with _quiet():
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=1,
            precision=precision,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            callbacks=[StepLog(folder), StepCheckpoint(folder, checkpoint_every), StepProgress(folder.name)],
        )
        try:
            trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
        except SystemExit as stop:  # how Lightning ends after Ctrl-C
            raise KeyboardInterrupt from stop
        except X2LError as error:  # with a traceback in it, if it comes from a loading process
            raise X2LError(str(error).strip().rpartition("X2LError: ")[2]) from error
    # A stage that ended early must not pass for complete.
    assert module.step == module.num_steps, f"{folder}: {module.step} of {module.num_steps} steps"


def own_steps(first: int, end: int) -> range:
    """The steps from `first` to `end` that this loading process makes: every n-th where there are n."""
    worker = get_worker_info()
    offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
    return range(first + offset, end, stride)


def steps_done(folder: Path) -> int:
    """How many steps the Lightning checkpoint in a stage's folder has behind it; 0 without one."""
    path = folder / LAST
    if not path.is_file():
        return 0
    return torch.load(path, weights_only=True, map_location="cpu", mmap=True)["x2l_step"]


class StepCheckpoint(Callback):
    """Keeps the newest Lightning checkpoint: Lightning's own counts each optimizer's steps."""

    def __init__(self, folder: Path, every: int):
        self.folder, self.every = folder, every

    def on_train_batch_end(self, trainer, module, *_) -> None:
        # The last step needs none: the finished model is written next.
        if module.step % self.every == 0 and module.step < module.num_steps:
            partial = self.folder / f"{LAST}.partial"
            trainer.save_checkpoint(partial, weights_only=False)
            os.replace(partial, self.folder / LAST)


class StepLog(Callback):
    """What `training_step` returns as one line of JSON per step: each batch has accuracies of its own shape.

    A logger with columns would repeat the last value of every other shape, and forget them in a resumed run.
    """

    def __init__(self, folder: Path):
        self.path = folder / LOG

    def on_train_start(self, trainer, module) -> None:
        """Steps behind the checkpoint are run again: their lines go."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_log(self.path) if line["step"] <= module.step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def on_train_batch_end(self, trainer, module, outputs: dict[str, Any], *_) -> None:
        line = {"step": module.step} | {name: round(float(value), 6) for name, value in outputs.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class StepProgress(Callback):
    """A bar on stderr, like every other of x2l: Lightning's writes where the command's result goes."""

    def __init__(self, name: str):
        self.name = name

    def on_train_start(self, trainer, module) -> None:
        self.bar = tqdm(desc=self.name, total=module.num_steps, initial=module.step, mininterval=1)

    def on_train_batch_end(self, trainer, module, outputs: dict[str, Any], *_) -> None:
        shown = {name: f"{float(value):.3f}" for name, value in outputs.items() if "/" not in name}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def on_train_end(self, trainer, module) -> None:
        self.bar.close()


def read_log(path: Path) -> list[dict[str, int | float]]:
    """The lines of a log.jsonl, without a last one that a kill tore; none where there is no file."""
    if not path.is_file():
        return []
    complete = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in complete.splitlines()]


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
