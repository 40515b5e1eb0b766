"""Questions that rows answer differently, with what each row had in its cache."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from x2l.drawing.timeline import SMALL, timeline
from x2l.evaluation.report.pictures import Picture, Pictures
from x2l.evaluation.report.runs import Runs
from x2l.evaluation.results import Line
from x2l.types import Plan

MOST_BYTES, MOST_CHUNKS = 3_500_000, 12_000
"""Of questions with their answers, and of chunks in time lines, which take 260 bytes each: a page stays below
ten megabytes with the pictures."""
LONGEST = 300
"""Characters of a text."""


@dataclass(frozen=True)
class Said:
    """What a row answered; alike: equal numbers where rows said the same.

    timeline: the number of a drawing; None where the page has no room for it.
    """

    text: str
    right: bool | None
    alike: int
    timeline: int | None
    detailed: list[Picture]


@dataclass(frozen=True)
class Asked:
    """A question, and what the rows said, in their order."""

    video: str
    id: str
    group: str
    text: str
    expected: str | None
    gold: list[Picture]
    said: list[Said]


@dataclass(frozen=True)
class Differences:
    """Those first that divide the rows most; drawings and pictures: by their numbers.

    left_out: what the page has no room for, in words.
    """

    asked: list[Asked]
    drawings: list[Markup]
    pictures: list[str]
    left_out: list[str]


def differences(runs: Runs, progress: bool) -> Differences:
    """Where rows differ, with a time line of each answer, and pictures where the videos are found."""
    differing = sorted((lines for lines in runs.lines if _divided(lines)), key=_divided, reverse=True)
    sizes = accumulate(map(_size, differing))
    listed = [lines for lines, size in zip(differing, sizes, strict=True) if size <= MOST_BYTES]
    drawings, pictures = _Drawings(), Pictures(runs, listed, progress)
    asked = [_asked(lines, drawings, pictures) for lines in listed]
    left_out = {
        "questions": len(differing) - len(listed),
        "time lines": sum(said.timeline is None for each in asked for said in each.said),
        "pictures": pictures.num_left_out,
    }
    told = [f"{num:,} {what}" for what, num in left_out.items() if num]
    return Differences(asked, drawings.made, pictures.urls, told)


def _asked(lines: Sequence[Line], drawings: _Drawings, pictures: Pictures) -> Asked:
    numbers = {answer: number for number, answer in enumerate(dict.fromkeys(map(_answer, lines)))}
    said = [
        Said(
            _short(line["prediction"]),
            line["right"],
            numbers[_answer(line)],
            drawings.number(line),
            pictures.of_detailed(line),
        )
        for line in lines
    ]
    first = lines[0]
    expected = None if first["gold"] is None else _short(first["gold"])
    names = (first["video"], first["question"], first["group"])
    return Asked(*names, _short(first["text"]), expected, pictures.of_gold(first), said)


class _Drawings:
    """Time lines, each drawn once however many answers share it."""

    def __init__(self):
        self.made: list[Markup] = []
        self._numbers: dict[str, int] = {}
        self._room = MOST_CHUNKS

    def number(self, line: Line) -> int | None:
        shown = [line.get(name) for name in ("plan", "scores", "bounds_s", "gold_chunks")]
        key = json.dumps(shown)
        if key not in self._numbers and self._room >= len(line["plan"]):
            self._room -= len(line["plan"])
            self._numbers[key] = len(self.made)
            ratios, scores, bounds_s, gold = shown
            plan = Plan(tuple(ratios), tuple(scores) if scores else None)
            self.made.append(timeline(plan, bounds_s, gold=gold, size=SMALL))
        return self._numbers.get(key)


def _divided(lines: Sequence[Line]) -> int:
    """Pairs of rows that say different things."""
    alike = Counter(map(_answer, lines)).values()
    return (len(lines) ** 2 - sum(num**2 for num in alike)) // 2


def _answer(line: Line) -> tuple[bool | None, str]:
    """The verdict and the words, without regard to case and punctuation."""
    return line["right"], " ".join(re.findall(r"\w+", line["prediction"].casefold()))


def _size(lines: Sequence[Line]) -> int:
    """Bytes that a question takes, about: its texts, and the tags around them."""
    texts = [lines[0]["text"], lines[0]["gold"] or "", *(line["prediction"] + line["row"] for line in lines)]
    return 400 + 300 * len(lines) + sum(len(_short(text).encode()) for text in texts)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
