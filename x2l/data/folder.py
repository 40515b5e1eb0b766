"""Data "folder": videos of your own, with a file of questions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from x2l.errors import X2LError, require
from x2l.interfaces import Data
from x2l.items import Item, kind_of
from x2l.needles.dataset import read_dataset
from x2l.types import Question


@dataclass
class Folder(Data):
    """A folder with a questions.json, as `x2l needles` writes it (see x2l.questions).

    Source: VNBench's format (arXiv 2406.09367), with id, group and gold_spans_s.
    """

    dir: str
    num: int | None = None
    """Only the first so many videos."""

    reduced: ClassVar[dict[str, Any]] = {"smoke": {"num": 1}, "quick": {"num": 6}}

    def __post_init__(self):
        require(self.num is None or self.num > 0, "num", "at least one video", self.num)

    def items(self) -> list[Item]:
        items = read_dataset(self.dir)[: self.num]
        # Answers are filed under the name of the video.
        for name, times in Counter(path.name for path, _ in items).items():
            if times > 1:
                raise X2LError(f"data.dir: {times} videos are called {name}, expected different names")
        return [Item.of_file(path, questions) for path, questions in items]

    def check_training(self) -> None:
        try:
            items = self._items
        except X2LError as error:
            raise X2LError(f"dir: {error}") from error
        for item in items:
            for question in item.questions:
                answered = question.answer is not None
                require(answered, f"dir: {item.name}, question {question.id}", "a gt to learn", None)

    def kind(self, question: Question) -> str:
        return kind_of(question) or question.group
