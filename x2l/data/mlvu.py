"""Data "mlvu": the multiple-choice tasks of MLVU."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from x2l.data._objects import known, read_objects
from x2l.data._release import Release
from x2l.errors import X2LError, unknown
from x2l.prompts import Prompt
from x2l.scoring import plain
from x2l.types import Question

DEV = {
    "1_plotQA": "plotQA",
    "2_needle": "needle",
    "3_ego": "ego",
    "4_count": "count",
    "5_order": "order",
    "6_anomaly_reco": "anomaly_reco",
    "7_topic_reasoning": "topic_reasoning",
}
"""Files of the dev set and the tasks in them; 8_sub_scene and 9_summary ask for free text."""
ABILITIES = {
    "topic_reasoning": "holistic",
    "anomaly_reco": "holistic",
    "needle": "single-detail",
    "ego": "single-detail",
    "plotQA": "single-detail",
    "sportsQA": "single-detail",
    "order": "multi-detail",
    "count": "multi-detail",
    "tutorialQA": "multi-detail",
}
SPELLINGS = {"findNeedle": "needle", "needleQA": "needle"}
PROMPT = Prompt(
    "Carefully watch this video and pay attention to every detail. Based on your observations, select the "
    "best option that accurately addresses the question.\nQuestion: {question}\nOptions:\n{options}\n"
    "Only give the best option.",
    answer="Best Option: (",
)


@dataclass(frozen=True)
class _Record:
    video: str
    question: str
    question_type: str
    candidates: tuple[str, ...] = ()
    answer: str | None = None
    question_id: str = ""


@dataclass
class MLVU(Release):
    """MLVU: accuracy over questions is the paper's M-avg, over groups (tasks) the official one.

    Source: MLVU (arXiv 2406.04264); prompt of its authors' and Video-XL's scripts.
    Differs: the system text is the beginning of the user's turn. Tasks of free text, which a language model
        judges, are left out. An answer that is none of the candidates is not scored.
    """

    split: Literal["dev", "test"] = "dev"

    release: ClassVar[str] = "MLVU/MLVU (dev) or MLVU/MLVU_Test on Hugging Face"

    def asked(self) -> Iterator[tuple[list[str], Question]]:
        numbers: Counter[str] = Counter()
        for file, folder in self._files():
            for data, path in read_objects(self.find(*file)):
                record = known(_Record, data, path)
                if not record.candidates:
                    continue
                task = SPELLINGS.get(record.question_type, record.question_type)
                if task not in ABILITIES:
                    raise unknown(f"{path}.question_type {task!r}", task, ABILITIES)
                name = record.question_id or f"{task}-{numbers[task]}"
                numbers[task] += 1
                yield [place + record.video for place in folder], _question(record, task, name, path)

    def _files(self) -> Iterator[tuple[list[str], list[str]]]:
        """Where each file of records may lie, and the folders where its videos may."""
        if self.split == "test":
            yield _either("test_question.json"), _either("video/")
            return
        for stem in DEV:
            yield _either(f"json/{stem}.json"), _either(f"video/{stem}/")


def _either(place: str) -> list[str]:
    """The release has everything in a folder of its own."""
    return [place, f"MLVU/{place}"]


def _question(record: _Record, task: str, name: str, path: str) -> Question:
    question = Question(
        text=record.question,
        id=name,
        options=record.candidates,
        answer=record.answer,
        group=task,
        labels=(ABILITIES[task],),
        prompt=PROMPT,
    )
    try:
        return plain(question)
    except X2LError as error:
        warnings.warn(f"{path}: not scored, {error}", stacklevel=2)
        return replace(question, answer=None)
