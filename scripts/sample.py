"""The sample video as `x2l ask` reads it: what the pictures of the README and of docs/ are drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from x2l.evaluation.figures import style
from x2l.pipeline import Pipeline
from x2l.questions import read_questions
from x2l.recipe import RECOMMENDED, Recipe, build_pipeline
from x2l.types import Clip, Question, VideoIndex
from x2l.video import Footage, open_video

ROOT = Path(__file__).parent.parent
VIDEO = ROOT / "examples" / "needles.mp4"
QUESTIONS = ROOT / "examples" / "questions.json"
DETAIL, GIST = style.COLOURS[0], style.COLOURS[5]
"""Colours of L- and H-KVs."""


@dataclass(frozen=True)
class Sample:
    """The video, the pipeline of `x2l ask` with some fields changed, and the index that it makes."""

    pipeline: Pipeline
    index: VideoIndex
    video: Footage

    @classmethod
    def read(cls, changes: Mapping[str, Any] = MappingProxyType({})) -> "Sample":
        pipeline = build_pipeline(Recipe.from_mapping(RECOMMENDED | changes))
        video = open_video(VIDEO, pipeline.sampling)
        return cls(pipeline, pipeline.index(video), video)

    @cached_property
    def clips(self) -> list[Clip]:
        return list(self.video.clips(chunk.num_frames for chunk in self.index.chunks))


def question(id: str) -> Question:
    """One of examples/questions.json."""
    return next(question for _, question in read_questions(QUESTIONS) if question.id == id)


def picture(
    axes: Axes, frame: np.ndarray, left: float, bottom: float, side: float, edge: str | None = None
) -> None:
    """A frame in a place given in the units of the axes, with a border of that colour."""
    axes.imshow(frame, extent=(left, left + side, bottom, bottom + side), zorder=2)
    if edge:
        axes.add_patch(Rectangle((left, bottom), side, side, fill=False, ec=edge, lw=2, zorder=3))


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None})
