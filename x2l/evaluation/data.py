"""Where the videos and questions of an evaluation come from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from x2l.errors import X2LError
from x2l.evaluation.haystack import Haystack
from x2l.needles.dataset import DEFAULT_QUESTIONS, Item, checked_counts, read_dataset, write_videos
from x2l.needles.videos import NeedleVideos
from x2l.storage.fingerprint import file_fingerprint
from x2l.types import Question


@dataclass(frozen=True)
class Needles:
    """Needle videos generated from a seed, in `dir` (default: "data" in the folder of results)."""

    num: int
    """Videos."""
    seed: int
    chunks: int
    """Scenes per video."""
    questions: dict[str, int] = field(default_factory=DEFAULT_QUESTIONS.copy)
    """Questions per video by kind."""
    split: str = "eval"
    size: int = 256
    """Side of a frame in pixels."""
    fps: float = 4.0
    seconds_per_scene: int = 10
    dir: str | None = None
    """A folder that several evaluations share."""

    reduced: ClassVar = {
        "smoke": {"num": 1, "chunks": 4, "dir": None},
        "quick": {"num": 6, "chunks": 8, "dir": None},
    }
    """What takes seconds or minutes (see Evaluation.load); the shared folder holds other videos."""

    def __post_init__(self):
        try:
            if self.num < 1:
                raise X2LError(f"num: expected at least one video, got {self.num}")
            checked_counts(self.questions)
            self._videos()
        except X2LError as error:
            raise X2LError(f"data.{error}") from error

    def open(self, out: Path, progress: bool) -> list[Item]:
        """Write what is not there yet; the videos with their questions."""
        videos = self._videos()
        ask = partial(videos.questions, counts=self.questions)
        return write_videos(self.dir or out / "data", self.num, videos, ask, self.questions, progress)

    def asked(self) -> Iterator[list[Question]]:
        """What is asked about each video, without writing any."""
        videos = self._videos()
        asked = (videos.questions(number, self.questions) for number in range(self.num))
        return filter(None, asked)

    def _videos(self) -> NeedleVideos:
        return NeedleVideos(self.seed, self.chunks, self.split, self.size, self.fps, self.seconds_per_scene)


@dataclass(frozen=True)
class Folder:
    """A folder with a questions.json, as `x2l needles` writes it; `num`: only the first so many videos."""

    dir: str
    num: int | None = None

    reduced: ClassVar = {"smoke": {"num": 1}, "quick": {"num": 6}}

    def __post_init__(self):
        if self.num is not None and self.num < 1:
            raise X2LError(f"data.num: expected at least one video, got {self.num}")

    def open(self, out: Path, progress: bool) -> list[Item]:
        items = read_dataset(self.dir)[: self.num]
        # Answers are filed under the name of the video.
        for name, times in Counter(path.name for path, _ in items).items():
            if times > 1:
                raise X2LError(f"data.dir: {times} videos are called {name}, expected different names")
        return items


Data = Needles | Haystack | Folder
DATA = {"needles": Needles, "haystack": Haystack, "folder": Folder}


def asked_hash(asked: Iterable[Sequence[Question]]) -> str:
    """sha256 over what is asked about each video, its answer and where it is seen; without options.

    What a generator draws decides it, and not how its videos are encoded.
    """
    content = [[(q.id, q.group, q.text, q.answer, q.gold_spans_s) for q in questions] for questions in asked]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def questions_hash(items: Sequence[Item]) -> str:
    """sha256 over what is asked about which bytes."""
    content = [(file_fingerprint(path), [asdict(question) for question in asked]) for path, asked in items]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
