"""Questions about videos as Lightning's data: samples of any source, decoded in loading processes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from x2l.broken import named, passed_over
from x2l.chunkers import ChunkFrames, make_chunker
from x2l.config.fields import arguments
from x2l.data import make_training_data
from x2l.errors import X2LError, require
from x2l.interfaces import Data
from x2l.training.qa_reading import QAReader, require_no_backbone
from x2l.training.qa_reading import VideoQA as VideoQA
from x2l.training.qa_steps import TrainingVideos, ValidationVideos
from x2l.video import Sampling


class VideoQADataModule(lightning.LightningDataModule):
    """Batches are VideoQA: one video with its questions.

    train, val: sources as {name: ..., **fields} (see x2l.data); val: all of it, at each look.
    sampling: fields of x2l.video.Sampling. num_steps: optimiser steps of the run, each of `accumulate` videos
        on each device (the Trainer's accumulate_grad_batches).
    questions_per_video: a random part of so many, anew each time; None: all.
    max_broken_share: stop when more of the videos cannot be read, 0..1; fewer are passed over.

    Raises X2LError naming the field that is wrong; those of `train` as data.*, which is what recipes call it.
    """

    def __init__(
        self,
        train: dict[str, Any],
        val: dict[str, Any] | None = None,
        sampling: dict[str, Any] | None = None,
        chunk_frames: ChunkFrames = 10,
        *,
        num_steps: int,
        accumulate: int = 1,
        seed: int = 0,
        num_workers: int = 0,
        questions_per_video: int | None = None,
        max_broken_share: float = 0.05,
    ):
        super().__init__()
        for name, value, least in (
            ("num_steps", num_steps, 1),
            ("accumulate", accumulate, 1),
            ("seed", seed, 0),
            ("num_workers", num_workers, 0),
            ("questions_per_video", 1 if questions_per_video is None else questions_per_video, 1),
        ):
            require(value >= least, name, f"{least} or more", value)
        require(0 <= max_broken_share <= 1, "max_broken_share", "a number from 0 to 1", max_broken_share)
        self.train_source = make_training_data(train, "data")
        self.val_source = None if val is None else make_training_data(val, "val")
        self.sampling = Sampling(**arguments(Sampling, sampling or {}, "sampling", lambda _: None))
        self.chunker, self.max_broken_share = make_chunker(chunk_frames), max_broken_share
        require_no_backbone(self.chunker, "chunk_frames")
        self.num_steps, self.accumulate, self.seed = num_steps, accumulate, seed
        self.num_workers, self.questions_per_video = num_workers, questions_per_video

    def train_dataloader(self) -> DataLoader:
        """From the step on where the trainer stands.

        Raises X2LError if the trainer accumulates other numbers of videos, or its module is to run longer.
        """
        self._require_same_run()
        len(self.train_source)  # read here once, not by every loading process
        return self._loader(self.train_videos())

    def train_videos(self) -> TrainingVideos:
        """The videos of all steps that are still to come, read where they are iterated."""
        steps_done = self.trainer.global_step if self.trainer else 0
        return TrainingVideos(
            self._reader(self.train_source),
            self.num_steps * self.accumulate,
            self.seed,
            self.questions_per_video,
            steps_done * self.accumulate,
            *self._place(),
        )

    def val_dataloader(self) -> DataLoader | list:
        """An empty list, Lightning's way to say none, where there is no `val`."""
        if self.val_source is None:
            return []
        _, num_devices = self._place()
        require(
            len(self.val_source) >= num_devices,
            "val",
            f"a sample for each of {num_devices} devices",
            len(self.val_source),
        )
        return self._loader(ValidationVideos(self._reader(self.val_source), *self._place()))

    def _require_same_run(self) -> None:
        if self.trainer is None:
            return
        module = self.trainer.lightning_module
        for name, own, other in (
            ("accumulate", self.accumulate, self.trainer.accumulate_grad_batches),
            ("num_steps", self.num_steps, getattr(module, "num_steps", self.num_steps)),
        ):
            require(own == other, f"data.{name}", f"that of the run ({other})", own)

    def _reader(self, source: Data) -> QAReader:
        # Of the module, because what it trains decides whether tokens can be kept.
        cache = getattr(self.trainer.lightning_module, "token_cache", None) if self.trainer else None
        return QAReader(source, self.sampling, self.chunker, self.max_broken_share, cache)

    def _place(self) -> tuple[int, int]:
        """This device's number, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, videos: Iterable[VideoQA]) -> DataLoader:
        return DataLoader(videos, batch_size=None, num_workers=self.num_workers)


class BrokenVideos(Callback):
    """Counts the broken videos that a run passed over, on all devices, and warns of them once, at its end.

    Raises X2LError where a device could read no held-out video at all.
    """

    def __init__(self):
        self.lines: dict[str, None] = {}
        self.has_looked = False

    def on_train_batch_start(self, trainer, module, batch: VideoQA, batch_idx: int) -> None:
        self.lines |= dict.fromkeys(batch.skipped)

    def on_validation_epoch_start(self, trainer, module) -> None:
        self.has_looked = False

    def on_validation_batch_start(self, trainer, module, batch: VideoQA, batch_idx: int, *_) -> None:
        self.lines |= dict.fromkeys(batch.skipped)
        self.has_looked |= bool(batch.questions)

    def on_validation_epoch_end(self, trainer, module) -> None:
        if not self.has_looked:
            raise X2LError(f"val: none of the videos can be read; {named(self.lines)}")

    def on_train_end(self, trainer, module) -> None:
        self._gather()
        if self.lines and trainer.is_global_zero:
            warnings.warn(passed_over(self.lines), stacklevel=2)

    def _gather(self) -> None:
        """All processes come by here together: at the end, and for each checkpoint."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            everywhere: list[list[str]] = [[]] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(everywhere, list(self.lines))
            self.lines = dict.fromkeys(line for lines in everywhere for line in lines)

    def state_dict(self) -> dict[str, Any]:
        self._gather()
        return {"lines": list(self.lines)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lines = dict.fromkeys(state["lines"])
