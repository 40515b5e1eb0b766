"""Data "vnbench": VNBench, whose questions are asked four times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from x2l.data._objects import known, read_objects
from x2l.data._release import Release
from x2l.prompts import Prompt
from x2l.types import Question

TYPES = (
    *("ret_edit1", "ret_insert1", "ret_insert2"),
    *("ord_edit1", "ord_insert1", "ord_insert2"),
    *("cnt_edit1", "cnt_edit2", "cnt_insert1"),
)
PROMPT = Prompt(
    "{question}\n{options}\nAnswer with the option's letter from the given choices directly.",
    option="{letter}. {text}",
)


@dataclass(frozen=True)
class _Record:
    video: str
    question: str
    options: tuple[str | int | float, ...]
    gt: str | int | float
    type: str
    try_: int


@dataclass
class VNBench(Release):
    """VNBench: four tries at each question, all of which must be right.

    Groups are types, labels ret, ord and cnt; the overall score is the mean of groups of "all tries right".

    Source: VNBench (arXiv 2406.09367); prompt and rules of its scripts.
    Differs: the type is that of the file's name, as the official summary has it (records swap two types).
    """

    release: ClassVar[str] = "Joez1717/VNBench on Hugging Face (videos: the drive that its page names)"

    def asked(self) -> Iterator[tuple[list[str], Question]]:
        for data, path in read_objects(self.find("VNBench-main-4try.json")):
            record = known(_Record, {**data, "try_": data.get("try")}, path)
            video = PurePosixPath(record.video)
            yield [video.name, f"VNBench/{video.name}", f"videos/{video.name}"], _question(record, video.stem)


def _question(record: _Record, stem: str) -> Question:
    kind = next((kind for kind in TYPES if stem.endswith(f"_{kind}")), record.type)
    return Question(
        text=record.question,
        id=f"{kind}-{record.try_}",
        options=tuple(map(str, record.options)),
        answer=str(record.gt),
        group=kind,
        tries_at=kind,
        labels=(kind.partition("_")[0],),
        prompt=PROMPT,
    )
