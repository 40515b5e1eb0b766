"""Data "v_niah": pictures hidden in a long video of your own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from x2l.data._objects import known, read_objects
from x2l.data._release import Release
from x2l.errors import X2LError, require
from x2l.items import NEEDLE, Item
from x2l.storage.files import read_json
from x2l.types import Question
from x2l.video import Footage, Inserted, Sampling, open_video

LISTED, IN_COLUMNS = "dataset.json", "qa.json"
PLACES = tuple(f"{folder}{name}" for name in (LISTED, IN_COLUMNS) for folder in ("", "needle_datasets/"))


@dataclass(frozen=True)
class _Needle:
    """path: of a picture. prompt: a question with its options, if it has any."""

    path: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class _Columns:
    """The same, as Video-XL's file has it."""

    needle: tuple[str, ...]
    retrieval_question: tuple[str, ...]
    answer: tuple[str, ...]


@dataclass
class VNIAH(Release):
    """V-NIAH: a picture at every depth among ever more frames of one long video, and a question about it.

    Source: V-NIAH (LongVA, arXiv 2406.16852), needles as VideoRoPE (arXiv 2502.05173) and Video-XL list them.
    Differs: what is generated is judged, not the likeliest token at each place of the answer.
    """

    haystack: str = "haystack.mp4"
    """A video of an hour or more, by its path or by that in `dir`."""
    lengths: tuple[int, ...] = (256, 512, 1024, 2048)
    """Frames of the haystack, spread evenly over it; a row's `sampling` does not count."""
    depths: tuple[int, ...] = (0, 25, 50, 75, 100)
    """Percent of these in front of the needle."""

    release: ClassVar[str] = "VideoRoPE (needle_datasets) or Video-XL (needle), with a video of your own"
    reduced: ClassVar[dict[str, Any]] = {
        "smoke": {"num": 1, "lengths": [32]},
        "quick": {"num": 6, "lengths": [64, 128]},
    }

    def __post_init__(self):
        super().__post_init__()
        require(bool(self.lengths) and min(self.lengths) > 0, "lengths", "positive integers", self.lengths)
        fits = bool(self.depths) and 0 <= min(self.depths) <= max(self.depths) <= 100
        require(fits, "depths", "percents from 0 to 100", self.depths)

    def items(self) -> list[Item]:
        haystack, needles = self.find(self.haystack), self._needles()
        cells = product(self.lengths, self.depths, needles)
        return [_item(haystack, *cell) for cell in cells][: self.num]

    def kind(self, question: Question) -> str:
        return NEEDLE

    def _needles(self) -> list[_Needle]:
        """With the paths of their pictures on this machine."""
        file = self.find(*PLACES)
        if file.name == IN_COLUMNS:
            told = _of_columns(file)
        else:
            told = [known(_Needle, data, path) for data, path in read_objects(file)]
        folder = file.parent.relative_to(self.root)
        return [_Needle(str(self.find(str(folder / n.path), n.path)), n.prompt, n.answer) for n in told]


@dataclass(frozen=True)
class InHaystack:
    """`open` of a haystack with a needle at a depth in percent."""

    haystack: Path
    needle: Path
    num_frames: int
    depth: int

    @property
    def at(self) -> int:
        return self.depth * self.num_frames // 100

    def __call__(self, sampling: Sampling) -> Footage:
        return Inserted(_opened(self.haystack, self.num_frames), self.needle, self.at)


@lru_cache(maxsize=16)
def _opened(path: Path, num_frames: int) -> Footage:
    """Cached: a long video takes seconds to open. Raises X2LError for one that has too few frames."""
    video = open_video(path, Sampling(num_frames=num_frames))
    if video.num_frames < num_frames:
        raise X2LError(f"{path}: has {video.num_frames} frames, expected at least {num_frames}")
    return video


def _of_columns(file: Path) -> list[_Needle]:
    content = read_json(file)
    require(isinstance(content, dict), str(file), "an object with lists", content)
    columns = known(_Columns, content, str(file))
    rows = (columns.needle, columns.retrieval_question, columns.answer)
    require(len(set(map(len, rows))) == 1, str(file), "lists of one length", list(map(len, rows)))
    return [_Needle(*row) for row in zip(*rows, strict=True)]


def _item(haystack: Path, num_frames: int, depth: int, needle: _Needle) -> Item:
    opened = InHaystack(haystack, Path(needle.path), num_frames, depth)
    question = Question(
        text=needle.prompt, id=f"{NEEDLE}-{depth}", answer=needle.answer, group=f"{num_frames} frames"
    )
    return Item(f"{num_frames}-{depth}-{opened.needle.stem}", (question,), opened, gold_frames=(opened.at,))
