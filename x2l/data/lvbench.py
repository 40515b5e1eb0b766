"""Data "lvbench": LVBench."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from x2l.data._objects import known, read_objects
from x2l.data._release import Release
from x2l.errors import require
from x2l.matching import listed
from x2l.prompts import Prompt
from x2l.types import Question

PROMPT = Prompt("{question}\n{options}\nAnswer the question with the option letter")
_TIME = r"(?:(\d+):)?(\d+):(\d+)"
_SPAN = re.compile(rf"{_TIME}\s*-\s*{_TIME}")


@dataclass(frozen=True)
class _Video:
    key: str
    type: str
    qa: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _Asked:
    """question: with its options behind it, "\\n(A) ..." each."""

    uid: str | int
    question: str
    answer: str
    question_type: tuple[str, ...]
    time_reference: str = ""


@dataclass
class LVBench(Release):
    """LVBench: groups are types of video; labels are skills, of which a question takes one or more.

    The release holds no videos: they are looked for as videos/<key>.mp4 and <key>.mp4.

    Source: LVBench (arXiv 2406.08035); prompt of lmms-eval 0.7.3.
    """

    release: ClassVar[str] = "zai-org/LVBench"

    def asked(self) -> Iterator[tuple[list[str], Question]]:
        for data, path in read_objects(self.find("video_info.meta.jsonl")):
            video = known(_Video, data, path)
            for number, asked in enumerate(video.qa):
                where = f"{path}.qa.{number}"
                question = _question(known(_Asked, asked, where), video.type, where)
                yield [f"videos/{video.key}.mp4", f"{video.key}.mp4"], question


def _question(asked: _Asked, kind: str, path: str) -> Question:
    options = listed(asked.question)
    require(
        bool(options), f"{path}.question", "options behind it, (A) and so on in a line each", asked.question
    )
    return Question(
        text=asked.question.partition("\n(A)")[0],
        id=str(asked.uid),
        options=tuple(options),
        answer=asked.answer,
        gold_spans_s=_spans_s(asked.time_reference),
        group=kind,
        labels=asked.question_type,
        prompt=PROMPT,
    )


def _spans_s(reference: str) -> tuple[tuple[float, float], ...] | None:
    """Of "03:10-03:25"; None where no such times are given."""
    spans = [_seconds(span.groups()) for span in _SPAN.finditer(reference)]
    return tuple((start_s, end_s) for start_s, end_s in spans if start_s < end_s) or None


def _seconds(numbers: tuple[str | None, ...]) -> tuple[float, float]:
    start, end = (
        3600.0 * int(hours or 0) + 60 * int(minutes) + int(seconds)
        for hours, minutes, seconds in (numbers[:3], numbers[3:])
    )
    return start, end
