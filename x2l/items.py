"""The items of data: videos that are not opened yet, and what is asked about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from x2l.errors import X2LError
from x2l.storage.fingerprint import file_fingerprint
from x2l.types import Question
from x2l.video import Footage, Sampling, open_video

NEEDLE = "needle"
"""The kind of question that a haystack is asked: "needle-25" lies a quarter of the way through."""


Cue = tuple[float, float, str]
"""A subtitle: from and to which second it is shown, and its text."""


@dataclass(frozen=True)
class VideoFile:
    """Opens a video file, a folder of pictures or a picture: `open` of an item."""

    path: Path

    def __call__(self, sampling: Sampling) -> Footage:
        return open_video(self.path, sampling)


@dataclass(frozen=True)
class Item:
    """Questions with their answers about one video; it can be pickled.

    name: what answers about the video are filed under; data to evaluate on has none twice.
    questions: ids differ; earlier turns of a conversation are the history of a question.
    open: a sampling to footage; raises X2LError where the video cannot be read.
    gold_frames: the frames that hold the answers, counted from 0 before sampling, where a record names these
        and no seconds: only the opened video knows when they are shown.
    cues: subtitles that the prompts of questions show: those of the frames that are looked at.
    """

    name: str
    questions: tuple[Question, ...]
    open: Callable[[Sampling], Footage]
    gold_frames: tuple[int, ...] = ()
    cues: tuple[Cue, ...] = ()

    @classmethod
    def of_file(cls, path: str | Path, questions: Iterable[Question]) -> Item:
        """Questions about a video file, which names the item."""
        return cls(Path(path).name, tuple(questions), VideoFile(Path(path)))

    @property
    def path(self) -> Path | None:
        """The file or folder that it opens; None if its frames come from elsewhere."""
        return self.open.path if isinstance(self.open, VideoFile) else None

    def asked(self, footage: Footage) -> tuple[Question, ...]:
        """The questions, gold frames as time spans, with the subtitles of the frames that are looked at.

        Raises X2LError for a frame that the video lacks.
        """
        questions = self.questions
        if self.gold_frames:
            spans_s = tuple(footage.span_s(first, last) for first, last in _runs(self.gold_frames))
            questions = tuple(replace(question, gold_spans_s=spans_s) for question in questions)
        if self.cues:
            said = "\n".join(text for start_s, end_s, text in self.cues if _is_seen(footage, start_s, end_s))
            questions = tuple(replace(q, prompt=replace(q.prompt, subtitles=said)) for q in questions)
        return questions

    def fingerprint(self) -> str:
        """Hash of the video's content. Raises X2LError if it cannot be read."""
        if self.path is None or self.path.is_dir():
            return self.open(Sampling()).fingerprint()["sha256"]
        try:
            return file_fingerprint(self.path)
        except OSError as error:
            raise X2LError(f"{self.path}: cannot be read, {error.strerror}") from error


def kind_of(question: Question) -> str:
    """The kind of a question by its id "{kind}-{i}"; "" for another id."""
    return question.id.rpartition("-")[0]


def _is_seen(footage: Footage, start_s: float, end_s: float) -> bool:
    return bool(((footage.times_s >= start_s) & (footage.times_s <= end_s)).any())


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    ordered = enumerate(sorted(set(numbers)))
    runs = [[number for _, number in run] for _, run in groupby(ordered, lambda pair: pair[1] - pair[0])]
    return [(run[0], run[-1]) for run in runs]
