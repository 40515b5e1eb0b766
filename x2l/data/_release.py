"""A benchmark as its authors released it: a folder on this machine, with records and videos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from x2l.config.paths import local_path
from x2l.errors import X2LError, require
from x2l.interfaces import Data
from x2l.items import Item, VideoFile
from x2l.registry import name_of
from x2l.types import Question
from x2l.video import Footage, Sampling


@dataclass
class Release(Data):
    """A benchmark defines `asked`, or `items` itself where a video is not a file of the release."""

    dir: str | None = None
    """The folder of the release, unpacked; default: the environment variable X2L_<NAME>_DIR."""
    num: int | None = None
    """Only the first so many videos."""

    release: ClassVar[str]
    """Where the files are from."""
    reduced: ClassVar[dict[str, Any]] = {"smoke": {"num": 1}, "quick": {"num": 6}}

    def __post_init__(self):
        require(self.num is None or self.num > 0, "num", "at least one video", self.num)

    def asked(self) -> Iterator[tuple[Sequence[str], Question]]:
        """Questions, each with the paths in the folder at which its video may lie, the released one first."""
        raise NotImplementedError

    def items(self) -> list[Item]:
        """Raises X2LError naming a file that is not there, its release and where it was looked for.

        A video that is not there is a broken one.
        """
        questions: dict[tuple[str, ...], list[Question]] = {}
        for places, question in self.asked():
            questions.setdefault(tuple(places), []).append(question)
        return [self.item(places, asked) for places, asked in list(questions.items())[: self.num]]

    def item(self, places: Sequence[str], questions: Sequence[Question]) -> Item:
        """A video, called by its path in the release, and its questions."""
        try:
            opened = VideoFile(self.find(*places))
        except X2LError as error:
            opened = Absent(str(error))
        return Item(places[0], tuple(questions), opened)

    def check_training(self) -> None:
        raise X2LError("name: is a benchmark to measure on, expected data to train on")

    @property
    def root(self) -> Path:
        """The folder. Raises X2LError if it is not given, or is none."""
        variable = f"X2L_{name_of(type(self)).upper()}_DIR"
        given = self.dir or os.environ.get(variable)
        if not given:
            raise X2LError(f"data.dir: missing, expected the folder of {self.release} (or set {variable})")
        if not (root := local_path(given)).is_dir():
            raise X2LError(f"data.dir: {root} is not a folder, expected that of {self.release}")
        return root

    def find(self, *places: str) -> Path:
        """The first of some paths in the folder at which there is something.

        Raises X2LError naming what is not there, its release and where it was looked for.
        """
        root = self.root
        for place in places:
            if (root / place).exists():
                return root / place
        raise X2LError(
            f"{root / places[0]}: not found, expected it from {self.release}; "
            f"looked for {', '.join(places)} in {root}{self._hint(root, places)}"
        )

    def _hint(self, root: Path, places: Sequence[str]) -> str:
        tables = ((root / place).with_suffix(".parquet") for place in places)
        if table := next((path for path in tables if path.is_file()), None):
            return f"; {table.name} is there: save its rows as {places[0]} (see docs/benchmarks.md)"
        return ""


@dataclass(frozen=True)
class Absent:
    """`open` of a video that is not there."""

    why: str

    def __call__(self, sampling: Sampling) -> Footage:
        raise X2LError(self.why)
