"""Data "needles": needle videos from a seed, written as files or drawn on the fly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from x2l.errors import X2LError, require
from x2l.interfaces import Data
from x2l.items import Item, kind_of
from x2l.needles.dataset import DEFAULT_QUESTIONS, checked_counts, write_videos
from x2l.needles.video_file import compressed
from x2l.needles.videos import NeedleVideos
from x2l.types import Question
from x2l.video import Sampling, Stills, stills_of

_VIDEO, _CODEC = 201, 202
"""Streams of random numbers of one drawn item."""
_MOST_DRAWS = 100


@dataclass
class Needles(Data):
    """Needle videos: files of so many scenes each, or drawn on the fly with as many as they happen to get.

    With one number of `chunks`, the videos are an evaluation's: files in `dir` (default: "data" in the folder
    of results). With the fewest and the most, a video is drawn when it is asked for, as a codec would leave
    it, and stored nowhere; it depends on these fields and its number only, not on `num`. No video of the
    files is among the drawn ones, even of an equal seed and split.

    Source: VNBench's synthetic needles (arXiv 2406.09367).
    """

    num: int
    """Videos."""
    seed: int
    chunks: int | tuple[int, int]
    """Scenes per video, or fewest and most."""
    questions: dict[str, int] = field(default_factory=DEFAULT_QUESTIONS.copy)
    """Questions per video by kind; fewer where a video has no more."""
    split: str | None = None
    """Of the footage; default: eval of files, train of drawn videos."""
    size: int = 256
    """Side of a frame in pixels."""
    fps: float | None = None
    """Default: 4 of files, 1 of drawn videos."""
    seconds_per_scene: int = 10
    dir: str | None = None
    """A folder of files that several evaluations share."""
    show_options: bool = False
    """Whether the questions of drawn videos have options; those of files do."""

    reduced: ClassVar[dict[str, Any]] = {
        "smoke": {"num": 1, "chunks": 4, "dir": None},
        "quick": {"num": 6, "chunks": 8, "dir": None},
    }
    """What takes seconds or minutes; the shared folder holds other videos."""

    def __post_init__(self):
        self.split = self.split or ("train" if self.is_drawn else "eval")
        self.fps = (1.0 if self.is_drawn else 4.0) if self.fps is None else self.fps
        require(self.num > 0, "num", "at least one video", self.num)
        require(self.seed >= 0, "seed", "0 or more", self.seed)
        fewest, most = self._range
        if self.is_drawn:
            require(1 <= fewest <= most, "chunks", "1 <= fewest <= most", list(self.chunks))
            require(self.dir is None, "dir", "one number of chunks with it", list(self.chunks))
        else:
            require(not self.show_options, "show_options", "fewest and most chunks with it", self.chunks)
        require(self.seconds_per_scene > 0, "seconds_per_scene", "1 or more", self.seconds_per_scene)
        checked_counts(self.questions)
        self._videos(self.seed, fewest)

    def check_training(self) -> None:
        expected = "fewest and most scenes to train on (videos of one number are an evaluation's)"
        require(self.is_drawn, "chunks", expected, self.chunks)

    @property
    def is_drawn(self) -> bool:
        """Whether videos are drawn when they are asked for; otherwise they are files."""
        return not isinstance(self.chunks, int)

    def __len__(self) -> int:
        return self.num

    def open(self, out: Path, progress: bool) -> list[Item]:
        """Write what is not there yet; the videos with their questions."""
        if self.is_drawn:
            return self.items()
        videos = self._videos(self.seed, self.chunks)
        ask = partial(videos.questions, counts=self.questions)
        folder = self.dir or out / "data"
        written = write_videos(folder, self.num, videos, ask, self.questions, progress)
        return [Item.of_file(path, questions) for path, questions in written]

    def asked(self) -> Iterator[list[Question]]:
        """Questions about each video, without writing any."""
        if self.is_drawn:
            return (list(item.questions) for item in self.items())
        videos = self._videos(self.seed, self.chunks)
        asked = (videos.questions(number, self.questions) for number in range(self.num))
        return filter(None, asked)

    def kind(self, question: Question) -> str:
        return kind_of(question)

    def sample(self, number: int) -> Item:
        """A drawn video. Raises X2LError if none that could be drawn has one of the questions."""
        for videos in self._draws(number):
            if questions := self._asked(videos):
                name = f"needles-{self.seed}-{number}"
                return Item(name, questions, partial(_draw, videos, name, [self.seed, number, _CODEC]))
        raise X2LError(f"questions: none of {', '.join(self.questions)} fits videos of {self.chunks} scenes")

    def _draws(self, number: int) -> Iterator[NeedleVideos]:
        """Some kinds cannot be asked of every video (a pattern in a tie), so there is more than one try."""
        fewest, most = self._range
        rng = np.random.default_rng([self.seed, number, _VIDEO])
        for _ in range(_MOST_DRAWS):
            chunks = int(rng.integers(fewest, most + 1))
            # Each of a seed of its own, of which the first video is taken.
            yield self._videos(int(rng.integers(2**63)), chunks)

    @property
    def _range(self) -> tuple[int, int]:
        return self.chunks if self.is_drawn else (self.chunks, self.chunks)

    def _videos(self, seed: int, chunks: int) -> NeedleVideos:
        return NeedleVideos(seed, chunks, self.split, self.size, self.fps, self.seconds_per_scene)

    def _asked(self, videos: NeedleVideos) -> tuple[Question, ...]:
        questions = videos.questions(0, self.questions)
        return tuple(q if self.show_options else replace(q, options=()) for q in questions)


def _draw(videos: NeedleVideos, name: str, seed: list[int], sampling: Sampling) -> Stills:
    rng = np.random.default_rng(seed)
    frames = np.stack([compressed(frame, rng) for frame in videos.frames(0)])
    return stills_of(frames, np.arange(len(frames)) / videos.fps, name, sampling)
