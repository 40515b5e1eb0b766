"""What a source of training data gives: videos that are not opened yet, and what is asked about them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from x2l.types import Question
from x2l.video import Footage, Sampling, open_video


@dataclass(frozen=True)
class QASample:
    """Questions with their answers about one video; it can be pickled.

    Earlier turns of a conversation are the history of a question.
    open: (sampling, frames per chunk) to footage; raises X2LError where the video cannot be read.
    gold_frames: the frames that hold the answers, counted from 0 before sampling, where a record names these
        and no seconds: only the opened video knows when they are shown.
    """

    name: str
    questions: tuple[Question, ...]
    open: Callable[[Sampling, int], Footage]
    gold_frames: tuple[int, ...] = ()

    def asked(self, footage: Footage) -> tuple[Question, ...]:
        """The questions, gold frames as time spans. Raises X2LError for a frame that the video lacks."""
        if not self.gold_frames:
            return self.questions
        spans_s = tuple(footage.span_s(first, last) for first, last in _runs(self.gold_frames))
        return tuple(replace(question, gold_spans_s=spans_s) for question in self.questions)


class QASource(ABC):
    """Samples by number. The fields of a source are its configuration.

    A sample depends on them and its number only, and nothing is decoded to make it.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Samples."""

    @abstractmethod
    def sample(self, number: int) -> QASample: ...


def open_file(path: Path, sampling: Sampling, chunk_frames: int) -> Footage:
    """What a sample opens with, once `path` is given."""
    return open_video(path, sampling, chunk_frames=chunk_frames)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    ordered = enumerate(sorted(set(numbers)))
    runs = [[number for _, number in run] for _, run in groupby(ordered, lambda pair: pair[1] - pair[0])]
    return [(run[0], run[-1]) for run in runs]
