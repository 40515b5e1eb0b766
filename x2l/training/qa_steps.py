"""Which video comes when: the same for any number of devices and loading processes, and after any stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Int
from torch.utils.data import IterableDataset

from x2l.errors import X2LError
from x2l.training.loop import own_steps
from x2l.training.qa_reading import QAReader, VideoQA
from x2l.types import Question

_ORDER, _QUESTIONS = 301, 302
"""Streams of random numbers of one run."""


@dataclass
class TrainingVideos(IterableDataset):
    """One video per micro step; what comes at micro step m depends on (seed, m) and the source only.

    Micro steps count the videos of all devices together; they go through one shuffled epoch after the other.
    This device takes every `world_size`-th, so that two devices see at once what one sees in two that it
    accumulates. A broken video gives way to the next of its epoch that can be read.
    """

    reader: QAReader
    num_micro_steps: int
    """Of this device, in the whole run."""
    seed: int
    questions_per_video: int | None = None
    """A random part of so many; None: all."""
    first: int = 0
    """Micro steps of this device that are done already."""
    rank: int = 0
    world_size: int = 1

    def __iter__(self) -> Iterator[VideoQA]:
        for own in own_steps(self.first, self.num_micro_steps):
            yield self.video(own * self.world_size + self.rank)

    def __len__(self) -> int:
        """Micro steps of the whole run: Lightning counts any before a resumed run's first one as fetched."""
        return self.num_micro_steps

    def video(self, number: int) -> VideoQA:
        """The video of a micro step of the run. Raises X2LError if too many videos are broken."""
        skipped: list[str] = []
        for sample in self._candidates(number):
            read = self.reader.read(sample)
            if isinstance(read, VideoQA):
                asked = self._part(read.questions, number)
                return replace(read, number=number, questions=asked, skipped=tuple(skipped))
            skipped.append(read)
        raise X2LError(f"none of the {len(skipped)} videos can be read; {skipped[0]}")

    def _candidates(self, number: int) -> Iterator[int]:
        """The sample whose turn it is, then those behind it in its epoch, round to those before it."""
        epoch, place = divmod(number, len(self.reader.source))
        order = _order(self.seed, epoch, len(self.reader.source))
        return (int(order[(place + i) % len(order)]) for i in range(len(order)))

    def _part(self, questions: tuple[Question, ...], number: int) -> tuple[Question, ...]:
        if self.questions_per_video is None or self.questions_per_video >= len(questions):
            return questions
        rng = np.random.default_rng([self.seed, number, _QUESTIONS])
        picks = rng.choice(len(questions), self.questions_per_video, replace=False)
        return tuple(questions[i] for i in sorted(picks))


@dataclass
class ValidationVideos(IterableDataset):
    """Every sample once, divided among devices and loading processes; broken videos are left out."""

    reader: QAReader
    rank: int = 0
    world_size: int = 1

    def __iter__(self) -> Iterator[VideoQA]:
        held, skipped = None, []
        for own in own_steps(0, len(self)):
            read = self.reader.read(own * self.world_size + self.rank)
            if isinstance(read, str):
                skipped.append(read)
                continue
            # One is held back, so that there is one to tell of broken videos at the end.
            if held is not None:
                yield replace(held, skipped=tuple(skipped))
                skipped = []
            held = read
        if held is not None:
            yield replace(held, skipped=tuple(skipped))
        elif skipped:
            yield VideoQA.unread(tuple(skipped))

    def __len__(self) -> int:
        """Videos of this device."""
        return len(range(self.rank, len(self.reader.source), self.world_size))


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, num: int) -> Int[np.ndarray, " samples"]:
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(num)
