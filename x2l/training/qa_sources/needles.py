"""Source "needles": needle videos drawn on the fly, no files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from x2l.errors import X2LError, require
from x2l.needles.dataset import DEFAULT_QUESTIONS, checked_counts
from x2l.needles.videos import NeedleVideos
from x2l.training.frames import compressed
from x2l.training.qa_sources.sample import QASample, QASource
from x2l.types import Question
from x2l.video import Sampling, Stills, stills_of

_VIDEO, _CODEC = 201, 202
"""Streams of random numbers of one sample."""
_MOST_DRAWS = 100


@dataclass(frozen=True)
class Needles(QASource):
    """Needle videos, one picture a second, as a codec would leave it.

    A sample depends on these fields and its number only, not on `num`. No video of an evaluation is among
    them, even of an equal seed and split.
    """

    num: int
    """Videos; nothing is stored, so there can be as many as there are steps."""
    seed: int
    chunks: tuple[int, int]
    """Fewest and most scenes per video."""
    questions: dict[str, int] = field(default_factory=DEFAULT_QUESTIONS.copy)
    """Questions per video by kind; fewer where a video has no more."""
    split: str = "train"
    seconds_per_scene: int = 10
    show_options: bool = False
    """Whether the model sees the options of a question."""

    def __post_init__(self):
        require(self.num > 0, "num", "at least one video", self.num)
        require(self.seed >= 0, "seed", "0 or more", self.seed)
        fewest, most = self.chunks
        require(1 <= fewest <= most, "chunks", "1 <= fewest <= most", list(self.chunks))
        require(self.seconds_per_scene > 0, "seconds_per_scene", "1 or more", self.seconds_per_scene)
        checked_counts(self.questions)
        self._videos(seed=0, chunks=fewest)

    def __len__(self) -> int:
        return self.num

    def sample(self, number: int) -> QASample:
        """Raises X2LError if no video that could be drawn has one of the questions."""
        for videos in self._draws(number):
            if questions := self._asked(videos):
                name = f"needles-{self.seed}-{number}"
                return QASample(name, questions, partial(_draw, videos, name, [self.seed, number, _CODEC]))
        raise X2LError(f"questions: none of {', '.join(self.questions)} fits videos of {self.chunks} scenes")

    def _draws(self, number: int) -> Iterator[NeedleVideos]:
        """Some kinds cannot be asked of every video (a pattern in a tie), so there is more than one try."""
        rng = np.random.default_rng([self.seed, number, _VIDEO])
        for _ in range(_MOST_DRAWS):
            chunks = int(rng.integers(self.chunks[0], self.chunks[1] + 1))
            yield self._videos(int(rng.integers(2**63)), chunks)

    def _videos(self, seed: int, chunks: int) -> NeedleVideos:
        """Those of a seed of their own, of which the first is taken."""
        return NeedleVideos(seed, chunks, self.split, fps=1.0, seconds_per_scene=self.seconds_per_scene)

    def _asked(self, videos: NeedleVideos) -> tuple[Question, ...]:
        questions = videos.questions(0, self.questions)
        return tuple(q if self.show_options else replace(q, options=()) for q in questions)


def _draw(videos: NeedleVideos, name: str, seed: list[int], sampling: Sampling, chunk_frames: int) -> Stills:
    rng = np.random.default_rng(seed)
    frames = np.stack([compressed(frame, rng) for frame in videos.frames(0)])
    return stills_of(frames, np.arange(len(frames), dtype=float), name, sampling, chunk_frames)
