"""Data "videomme": Video-MME, with subtitles or without."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from x2l.data._objects import known, read_objects
from x2l.data._release import Release
from x2l.items import Cue, Item
from x2l.prompts import Prompt
from x2l.storage.captions import read_captions
from x2l.types import Question

RECORDS = "videomme/test-00000-of-00001"
INSTRUCTION = (
    "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n{question}\n{options}\n"
)
PROMPT = Prompt(
    INSTRUCTION + "\nAnswer with the option's letter from the given choices directly.",
    option="{letter}. {text}",
)
WITH_SUBTITLES = Prompt(
    "This video's subtitles are listed below: \n{subtitles}\n" + INSTRUCTION + "The best answer is:",
    option="{letter}. {text}",
    subtitles="No subtitles available",
)
_SAID = re.compile(r'<font color="white" size=".72c">(.*?)</font>', re.DOTALL)


@dataclass(frozen=True)
class _Record:
    videoID: str  # noqa: N815 (the release's name)
    duration: str
    domain: str
    sub_category: str
    task_type: str
    question_id: str
    question: str
    options: tuple[str, ...]
    answer: str


@dataclass
class VideoMME(Release):
    """Video-MME: groups are short, medium and long; labels are domain, sub-category and task.

    Source: Video-MME (arXiv 2405.21075); prompts and subtitles as in lmms-eval 0.7.3.
    Differs: subtitles are those of the frames that are looked at, in temporal order.
    """

    subtitles: bool = False
    """Whether the model reads what is said."""

    release: ClassVar[str] = "lmms-lab/Video-MME on Hugging Face"

    def asked(self) -> Iterator[tuple[list[str], Question]]:
        for data, path in read_objects(self.find(f"{RECORDS}.jsonl", f"{RECORDS}.json")):
            record = known(_Record, data, path)
            yield [f"data/{record.videoID}.mp4"], self._question(record)

    def item(self, places: Sequence[str], questions: Sequence[Question]) -> Item:
        item = super().item(places, questions)
        said = self.root / "subtitle" / Path(places[0]).with_suffix(".srt").name
        return replace(item, cues=_cues(said)) if self.subtitles and said.is_file() else item

    def _question(self, record: _Record) -> Question:
        return Question(
            text=record.question,
            id=record.question_id,
            options=record.options,
            answer=record.answer,
            group=record.duration,
            labels=(record.domain, record.sub_category, record.task_type),
            prompt=WITH_SUBTITLES if self.subtitles else PROMPT,
        )


def _cues(path: Path) -> tuple[Cue, ...]:
    """Subtitles by their start; what is not in the release's font tag is not said."""
    found = [
        (caption.start_s, caption.end_s, " ".join(text.split()))
        for caption in read_captions(path)
        for text in _SAID.findall(caption.marked)
    ]
    return tuple(sorted(found))
