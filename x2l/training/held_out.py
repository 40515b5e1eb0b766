"""The log of held-out questions: a line of JSON for each look, the first before any step."""

from __future__ import annotations

import json
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from x2l.training.loop import drop_lines_behind

HELD_OUT = "val.jsonl"
PREFIX = "val_"


class HeldOutLog(Callback):
    """Keeps every figure that `validation_step` logs under a name with "val_", and shows a bar meanwhile.

    The first look is Lightning's check before training (`num_sanity_val_steps=-1`), which loggers do not see.
    """

    def __init__(self, folder: Path):
        self.path = folder / HELD_OUT

    def on_train_start(self, trainer: lightning.Trainer, module) -> None:
        if trainer.is_global_zero:
            drop_lines_behind(module.step, self.path)

    def on_validation_start(self, trainer: lightning.Trainer, module) -> None:
        total, is_shown = len(trainer.val_dataloaders), trainer.is_global_zero
        self.bar = tqdm(desc="held-out videos", total=total, leave=False, disable=not is_shown)

    def on_validation_batch_end(self, *_) -> None:
        self.bar.update()

    def on_validation_end(self, trainer: lightning.Trainer, module) -> None:
        self.bar.close()
        if trainer.is_global_zero:
            figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
            line = {name: round(value, 6) for name, value in figures.items() if name.startswith(PREFIX)}
            with self.path.open("w" if trainer.sanity_checking else "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": module.step} | line) + "\n")
