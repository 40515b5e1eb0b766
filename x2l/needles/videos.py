"""Needle videos by number: what the i-th of them shows and what is asked about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from x2l.items import NEEDLE, kind_of
from x2l.needles import backgrounds
from x2l.needles.questions import CHOICES, ask_all, ask_needle
from x2l.needles.render import Renderer
from x2l.needles.video_file import Frame
from x2l.needles.world import FRAME_COLOURS, MAX_BELLS, PATTERNS, Script, write_script
from x2l.scoring import words
from x2l.types import Question, X2LError

MAX_OPTIONS = 4

_YES_NO = ("yes", "no")
_DIGITS = tuple(map(str, range(10)))
_ANSWERS = {
    "detail": _DIGITS,
    "scoped": _DIGITS,
    "pair": tuple(f"{first} {second}" for first in _DIGITS for second in _DIGITS),
    "before": _YES_NO,
    "earlier": FRAME_COLOURS,
    "after": FRAME_COLOURS,
    "tally": _DIGITS,
    "count": tuple(map(str, range(1, MAX_BELLS + 1))),
    "exist": _YES_NO,
    "daynight": ("day", "night"),
    "pattern": PATTERNS,
    "moment": _DIGITS,
}
"""What an answer to each kind of question can be: options are drawn from here."""

# Streams of random numbers of one video; training uses other ones, even for an equal seed.
_SCRIPT, _FOOTAGE, _ASKING, _OPTIONS = 101, 102, 103, 104
_BACKGROUNDS_PER_VIDEO = 6


@dataclass(frozen=True)
class NeedleVideos:
    """Endless needle videos; everything about the i-th depends on these fields and i only.

    A chunk is one scene: with `seconds_per_scene` frames per chunk at 1 frame per second, they coincide.
    Raises X2LError for a value that makes no video.
    """

    seed: int
    chunks: int
    split: str = "eval"
    size: int = 256
    fps: float = 4.0
    seconds_per_scene: int = 10

    def __post_init__(self):
        if self.seed < 0:
            raise X2LError(f"seed: expected 0 or more, got {self.seed}")
        if self.chunks < 1:
            raise X2LError(f"chunks: expected 1 or more, got {self.chunks}")
        if self.size < 2 or self.size % 2:
            raise X2LError(f"size: expected an even number of pixels, got {self.size}")
        if not self.fps >= 1:
            raise X2LError(
                f"fps: expected at least 1 frame per second (cards change so often), got {self.fps}"
            )
        if self.split not in backgrounds.SPLITS:
            raise X2LError(f"split: expected one of {', '.join(backgrounds.SPLITS)}, got {self.split!r}")

    def script(self, number: int) -> Script:
        rng = self._rng(number, _SCRIPT)
        return write_script(rng, self.chunks, self.seconds_per_scene, num_backgrounds=_BACKGROUNDS_PER_VIDEO)

    def name(self, number: int) -> str:
        """The name of the file that holds the i-th video."""
        return f"{number:04d}.mp4"

    def frames(self, number: int) -> Iterator[Frame]:
        """RGB pictures [size, size, 3], drawn while they are read."""
        script, renderer = self.script(number), self._renderer(number)
        num_frames = round(script.num_seconds * self.fps)
        return (renderer.frame(script, i / self.fps) for i in range(num_frames))

    def questions(self, number: int, counts: Mapping[str, int]) -> list[Question]:
        """Questions with options; details of inner scenes only, because edge chunks are always 2x."""
        asked = ask_all(self.script(number), self._rng(number, _ASKING), counts, inner_only=True)
        return self._with_options(number, asked)

    def _with_options(self, number: int, questions: list[Question]) -> list[Question]:
        rng = self._rng(number, _OPTIONS)
        return [_with_options(question, rng) for question in questions]

    def _renderer(self, number: int) -> Renderer:
        rng, footage = self._rng(number, _FOOTAGE), _footage(self.split)
        repeats = len(footage) < _BACKGROUNDS_PER_VIDEO
        picks = rng.choice(len(footage), _BACKGROUNDS_PER_VIDEO, replace=repeats)
        return Renderer(self.size, [footage[i].variant(rng) for i in picks])

    def _rng(self, number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number, stream])


@dataclass(frozen=True, kw_only=True)
class HaystackVideos(NeedleVideos):
    """Videos of one length whose needles lie at given depths: one question per depth, edges included.

    depths: percent of the way from the first to the last scene; those of a short video can share a scene.
    last_scene_seconds: for lengths that are no multiple of a scene.

    Source: V-NIAH (LongVA, arXiv 2406.16852), as in Video-X^2L's Figure 2.
    Differs: the needle is a card that one of the scenes shows, not a picture inserted between frames. Its
    scene has a frame of its own, as the inserted picture is the only one of its kind (own_frames).
    """

    last_scene_seconds: int
    depths: tuple[int, ...]
    own_frames: bool = True

    def __post_init__(self):
        super().__post_init__()
        if not self.depths or len(set(self.depths)) < len(self.depths):
            raise X2LError(f"depths: expected different percentages, got {list(self.depths)}")
        for i, depth in enumerate(self.depths):
            if not 0 <= depth <= 100:
                raise X2LError(f"depths.{i}: expected 0..100 percent, got {depth}")

    @property
    def num_seconds(self) -> int:
        return (self.chunks - 1) * self.seconds_per_scene + self.last_scene_seconds

    @property
    def scenes(self) -> list[int]:
        """The scene at each depth."""
        return [round(depth / 100 * (self.chunks - 1)) for depth in self.depths]

    def name(self, number: int) -> str:
        return f"{self.num_seconds:04d}-{number:02d}.mp4"

    def script(self, number: int) -> Script:
        return write_script(
            self._rng(number, _SCRIPT),
            self.chunks,
            self.seconds_per_scene,
            self.last_scene_seconds,
            num_backgrounds=_BACKGROUNDS_PER_VIDEO,
            first_scenes=set(self.scenes),
            own_frames=set(self.scenes) if self.own_frames else (),
        )

    def needles(self, number: int) -> list[Question]:
        """One detail per depth, with options."""
        script, rng = self.script(number), self._rng(number, _ASKING)
        asked = [ask_needle(script, rng, scene) for scene in self.scenes]
        return [
            replace(question, id=f"{NEEDLE}-{depth}", group=f"{self.num_seconds} frames")
            for question, depth in zip(self._with_options(number, asked), self.depths, strict=True)
        ]

    def _rng(self, number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.num_seconds, number, stream])


@lru_cache
def _footage(split: str) -> list[backgrounds.Background]:
    return backgrounds.load(split, seed=0)


def _with_options(question: Question, rng: np.random.Generator) -> Question:
    answers = _ANSWERS[kind_of(question)]
    if kind_of(question) in CHOICES:
        named = words(question.text)
        answers = [answer for answer in answers if answer in named]
    wrong = [answer for answer in answers if answer != question.answer]
    drawn = [question.answer, *rng.permutation(wrong)[: MAX_OPTIONS - 1].tolist()]
    return replace(question, options=tuple(rng.permutation(drawn).tolist()))
