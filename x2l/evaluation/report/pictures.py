"""Pictures of the chunks that matter to answers, each made once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from x2l.drawing.words import span
from x2l.evaluation.report.runs import Runs
from x2l.evaluation.report.thumbnails import Moment, thumbnails
from x2l.evaluation.results import RUN, Line
from x2l.recipe import Recipe
from x2l.scoring import best
from x2l.storage.files import read_json
from x2l.video import Sampling

MOST = 300
"""Of about 6,000 bytes each."""
MOST_AT_ONCE = 4
"""Beside an answer."""

Picture = tuple[int, str]
"""Its number, and when the chunk is."""


class Pictures:
    """Pictures of what answers to some questions re-loaded in detail, and of where the right ones are seen.

    urls: by number. There are none of videos that are not found, or answers that do not tell when chunks are
    (results of earlier versions), and MOST in all.
    """

    def __init__(self, runs: Runs, questions: Sequence[Sequence[Line]], progress: bool):
        self._samplings = {row: _sampling(recipe) for row, recipe in runs.recipes.items()}
        self._videos = {name: _videos(folder) for name, folder in runs.folders.items()}
        wanted = dict.fromkeys(
            moment
            for lines in questions
            for line in lines
            for chunk in {*_gold(line), *_detailed(line)}
            if (moment := self._moment(line, chunk))
        )
        made = thumbnails(islice(wanted, MOST), progress)
        self._numbers = {moment: number for number, moment in enumerate(made)}
        self.urls = list(made.values())
        self.num_left_out = max(0, len(wanted) - MOST)

    def of_gold(self, line: Line) -> list[Picture]:
        """Where the right answer is seen."""
        return self._of(line, _gold(line))

    def of_detailed(self, line: Line) -> list[Picture]:
        """What was re-loaded in detail, in temporal order."""
        return self._of(line, _detailed(line))

    def _of(self, line: Line, chunks: list[int]) -> list[Picture]:
        moments = {chunk: self._moment(line, chunk) for chunk in chunks}
        return [
            (self._numbers[moment], span(*line["bounds_s"][chunk : chunk + 2]))
            for chunk, moment in moments.items()
            if moment in self._numbers
        ]

    def _moment(self, line: Line, chunk: int) -> Moment | None:
        """The middle of a chunk."""
        bounds_s, video = line.get("bounds_s"), self._videos[line["run"]].get(line["video"])
        if not bounds_s or not video:
            return None
        return Moment(video, self._samplings[line["row"]], (bounds_s[chunk] + bounds_s[chunk + 1]) / 2)


def _videos(folder: Path) -> dict[str, Path]:
    """Where the videos of a run are; runs of earlier versions do not tell."""
    return {name: folder / path for name, path in read_json(folder / RUN).get("videos", {}).items()}


def _sampling(recipe: dict[str, Any]) -> Sampling:
    return Recipe.from_mapping({"sampling": recipe.get("sampling", {})}).sampling


def _gold(line: Line) -> list[int]:
    return line["gold_chunks"][:MOST_AT_ONCE]


def _detailed(line: Line) -> list[int]:
    """Those with the best scores, where there are many."""
    chunks, scores = line["detailed_chunks"], line["scores"] or [0.0] * len(line["plan"])
    return sorted(chunks[i] for i in best([scores[chunk] for chunk in chunks], MOST_AT_ONCE))
