"""Data "longvideobench": LongVideoBench without subtitles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from x2l.data._objects import known, read_objects
from x2l.data._release import Release
from x2l.errors import require
from x2l.prompts import Prompt
from x2l.types import Question

FILES = {"val": "lvb_val.json", "test": "lvb_test_wo_gt.json"}
PROMPT = Prompt(
    "{question}\n{options}\nAnswer with the option's letter from the given choices directly.\n",
    option="{letter}. {text}",
)
ABSENT = "N/A"
"""An option that there is not, in the release's table."""


@dataclass(frozen=True)
class _Record:
    """With `candidates`, or with option0 and so on in their place."""

    id: str
    video_path: str
    question: str
    duration_group: int
    question_category: str
    topic_category: str
    candidates: tuple[str, ...] = ()
    option0: str = ABSENT
    option1: str = ABSENT
    option2: str = ABSENT
    option3: str = ABSENT
    option4: str = ABSENT
    correct_choice: int | None = None

    @property
    def options(self) -> tuple[str, ...]:
        columns = (self.option0, self.option1, self.option2, self.option3, self.option4)
        return tuple(option for option in self.candidates or columns if option != ABSENT)


@dataclass
class LongVideoBench(Release):
    """LongVideoBench: groups are up to 15, 60, 600 and 3600 s; labels are category and topic of a question.

    Source: LongVideoBench (arXiv 2407.15754); prompt of lmms-eval 0.7.3, longvideobench_val_v.
    Differs: an answer that names no option is wrong, not drawn at random.
    """

    split: Literal["val", "test"] = "val"

    release: ClassVar[str] = "longvideobench/LongVideoBench on Hugging Face"

    def asked(self) -> Iterator[tuple[list[str], Question]]:
        for data, path in read_objects(self.find(FILES[self.split])):
            record = known(_Record, data, path)
            yield [f"videos/{record.video_path}"], self._question(record, path)

    def _question(self, record: _Record, path: str) -> Question:
        options, right = record.options, record.correct_choice
        if self.split == "val":
            fits = right is not None and 0 <= right < len(options)
            require(fits, f"{path}.correct_choice", f"0 to {len(options) - 1}", right)
        return Question(
            text=record.question,
            id=record.id,
            options=options,
            answer=options[right] if self.split == "val" else None,
            group=f"{record.duration_group} s",
            labels=(record.question_category, record.topic_category),
            prompt=PROMPT,
        )
