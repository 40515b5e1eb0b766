"""Data "haystack": needles at every depth of ever longer videos, for a heat map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from x2l.errors import require
from x2l.interfaces import Data
from x2l.items import NEEDLE, Item, kind_of
from x2l.needles.dataset import write_videos
from x2l.needles.videos import HaystackVideos
from x2l.types import Question

SECONDS_PER_SCENE = 10


@dataclass
class Haystack(Data):
    """Videos of several lengths generated from a seed, each asked for one needle per depth.

    They lie in `dir` (default: "data" in the folder of results), one folder per length.

    Source: V-NIAH (LongVA, arXiv 2406.16852), as in Video-X^2L's Figure 2.
    """

    num: int
    """Videos per length."""
    seed: int
    lengths: tuple[int, ...]
    """Frames at one per second."""
    depths: tuple[int, ...] = (0, 25, 50, 75, 100)
    """Percent of the way from the first to the last scene."""
    split: str = "eval"
    size: int = 256
    """Side of a frame in pixels."""
    fps: float = 4.0
    own_frames: bool = True
    """Whether a needle's scene has a frame that no other has: beyond 32 scenes names recur without it."""
    dir: str | None = None
    """A folder that several evaluations share."""

    reduced: ClassVar[dict[str, Any]] = {
        "smoke": {"num": 1, "lengths": [32], "dir": None},
        "quick": {"num": 2, "lengths": [64, 128], "dir": None},
    }

    def __post_init__(self):
        require(self.num > 0, "num", "at least one video", self.num)
        fits = self.lengths and min(self.lengths) > 0 and len(set(self.lengths)) == len(self.lengths)
        require(bool(fits), "lengths", "different positive integers", list(self.lengths))
        for length in self.lengths:
            self._videos(length).script(0)

    def open(self, out: Path, progress: bool) -> list[Item]:
        """Write what is not there yet; the videos with their questions, length by length."""
        return [item for length in self.lengths for item in self._open(length, out, progress)]

    def asked(self) -> Iterator[list[Question]]:
        """Questions about each video, without writing any."""
        for videos in map(self._videos, self.lengths):
            yield from map(videos.needles, range(self.num))

    def kind(self, question: Question) -> str:
        return kind_of(question)

    def _open(self, length: int, out: Path, progress: bool) -> list[Item]:
        videos = self._videos(length)
        folder = Path(self.dir or out / "data") / f"{length:04d}"
        counts = {NEEDLE: len(self.depths)}
        written = write_videos(folder, self.num, videos, videos.needles, counts, progress)
        return [Item.of_file(path, questions) for path, questions in written]

    def _videos(self, length: int) -> HaystackVideos:
        before_last, last_second = divmod(length - 1, SECONDS_PER_SCENE)
        return HaystackVideos(
            seed=self.seed,
            chunks=before_last + 1,
            split=self.split,
            size=self.size,
            fps=self.fps,
            seconds_per_scene=SECONDS_PER_SCENE,
            last_scene_seconds=last_second + 1,
            depths=self.depths,
            own_frames=self.own_frames,
        )
