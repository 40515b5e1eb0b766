"""Data "vico": in which order are three things seen?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np

from x2l.config.fields import convert
from x2l.config.paths import local_path
from x2l.errors import X2LError, require
from x2l.interfaces import Data
from x2l.items import Item, VideoFile
from x2l.storage.files import read_json
from x2l.types import Question

NUM_CLUES = 3
_ORDERS = tuple(permutations(range(NUM_CLUES)))
_ASKED = (
    "In which order are these seen in the video?",
    "Choose the order in which these events happen in the video.",
    "What is the correct order of these scenes?",
    "Which of these sequences does the video show?",
)


@dataclass(frozen=True)
class Caption:
    """A caption from one time to another, in seconds."""

    start_s: float
    end_s: float
    caption: str


@dataclass
class Vico(Data):
    """Visual Clue Order: questions from captions with times, {"path": [{start_s, end_s, caption}, ...]}.

    A clue is a caption that its video has once, in whatever case; a video with fewer than three is not asked
    about.

    Source: Video-XL (arXiv 2409.14485), section 3.3 (VICO): three clues, options joined by " -> ".
    Differs: captions are given, not asked from a model, and are themselves the clues.
    """

    captions: str
    """The JSON file."""
    num: int
    """Questions, spread evenly over the videos."""
    dir: str | None = None
    """What the paths of videos are relative to (default: the folder of the file)."""
    seed: int = 0
    num_options: int = 4
    """2 to 6, the number of orders of three."""

    def __post_init__(self):
        require(self.num > 0, "num", "at least one question", self.num)
        require(self.seed >= 0, "seed", "0 or more", self.seed)
        fits = 2 <= self.num_options <= len(_ORDERS)
        require(fits, "num_options", f"2 to {len(_ORDERS)}", self.num_options)

    def __len__(self) -> int:
        return self.num

    def sample(self, number: int) -> Item:
        video, clues = self._videos[number % len(self._videos)]
        root = local_path(self.captions).parent if self.dir is None else local_path(self.dir)
        name = f"vico-{self.seed}-{number}"
        rng = np.random.default_rng([self.seed, number])
        question = _question(name, clues, self.num_options, rng)
        return Item(name, (question,), VideoFile(root / video))

    @cached_property
    def _videos(self) -> list[tuple[str, list[Caption]]]:
        """Videos with clues enough, and their clues in temporal order."""
        data = read_json(Path(self.captions))
        if not isinstance(data, dict):
            raise X2LError(f"{self.captions}: expected an object, captions by the path of their video")
        clues = [(video, _clues(captions, f"{self.captions}: {video}")) for video, captions in data.items()]
        found = [(video, row) for video, row in clues if len(row) >= NUM_CLUES]
        if not found:
            raise X2LError(f"{self.captions}: expected a video with {NUM_CLUES} captions that it has once")
        return found


def _clues(data: Any, path: str) -> list[Caption]:
    """Those that say what they say once, in temporal order. Raises X2LError for times that do not tell it."""
    captions = convert(data, list[Caption], path, lambda _: None)
    for number, caption in enumerate(captions):
        require(bool(caption.caption.strip()), f"{path}.{number}.caption", "text", caption.caption)
        span_s = caption.start_s, caption.end_s
        require(0 <= caption.start_s < caption.end_s, f"{path}.{number}", "0 <= start_s < end_s", span_s)
    ordered = sorted(captions, key=lambda caption: caption.start_s)
    for one, other in pairwise(ordered):
        if one.end_s > other.start_s:
            overlap = f"one that ends at {one.end_s} s and one that starts at {other.start_s} s"
            raise X2LError(f"{path}: expected captions one behind the other, got {overlap}")
    times = Counter(map(_meaning, captions))
    return [caption for caption in ordered if times[_meaning(caption)] == 1]


def _meaning(caption: Caption) -> str:
    return " ".join(caption.caption.split()).casefold()


def _question(name: str, clues: list[Caption], num_options: int, rng: np.random.Generator) -> Question:
    picked = [clues[i] for i in sorted(rng.choice(len(clues), NUM_CLUES, replace=False))]
    wrong = rng.permutation(range(1, len(_ORDERS)))[: num_options - 1].tolist()
    # The first of the orders is the temporal one.
    shown = rng.permutation([0, *wrong]).tolist()
    question = Question(
        text=_ASKED[rng.integers(len(_ASKED))],
        id=name,
        options=tuple(" -> ".join(picked[i].caption.strip() for i in _ORDERS[order]) for order in shown),
        gold_spans_s=tuple((clue.start_s, clue.end_s) for clue in picked),
        group="order",
    )
    return replace(question, answer=question.lettered_options[shown.index(0)])
