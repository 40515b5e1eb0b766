"""A visitor: a video, its indices and a conversation. Knows nothing of the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

from x2l.errors import X2LError
from x2l.pipeline import Pipeline
from x2l.pipeline.asking import OnText
from x2l.pipeline.indexing import OnChunk, made_with
from x2l.recipe import Recipe
from x2l.types import Answer, Question, VideoIndex
from x2l.video import Footage
from x2l.web.recent import Recent

TIMES = 5
"""A question is timed so often, and the median is told."""
MOST_INDICES = 3
"""Of one video: two settings side by side, and the uncompressed cache."""


@dataclass
class Held:
    """An index, and the keys of the oracles that looked at the video for it."""

    index: VideoIndex
    oracles: set[str] = field(default_factory=set)


class Session:
    """Answers questions about the video that was opened last; the model reads it once for all that need it.

    pipeline_of: the pipeline of a recipe. open_video: opens a path. generation: as of Pipeline.ask.
    """

    def __init__(
        self,
        pipeline_of: Callable[[Recipe], Pipeline],
        open_video: Callable[[str], Footage],
        generation: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._pipeline_of, self._open_video, self._generation = pipeline_of, open_video, generation
        self._held: Recent[Held] = Recent(MOST_INDICES)
        self._video: Footage | None = None
        self.turns: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> Path | None:
        """Where the video lies; None: none was opened."""
        return self._video and self._video.path

    def opened(self) -> Footage:
        """The video. Raises X2LError if none was opened."""
        if self._video is None:
            raise X2LError("video: none is open, expected the sample or one of your own")
        return self._video

    def open(self, path: str | Path) -> Footage:
        """Open another video and forget what was said of the one before.

        Raises X2LError if it cannot be read; the one before stays then.
        """
        self._video = self._open_video(str(path))
        self._held.clear()
        self.turns = ()
        return self._video

    def index(self, recipe: Recipe, on_chunk: OnChunk = None) -> VideoIndex:
        """The index that a recipe asks; the model reads the video only if no index is made like it.

        An index that is there is given what the recipe's oracle stores. on_chunk: as of Pipeline.index.
        """
        pipeline, video = self._pipeline_of(recipe), self.opened()
        made = json.dumps(made_with(pipeline.compressor, pipeline.ratios, pipeline.chunker))
        looking = {inner.key for inner in pipeline.oracle.with_inner()}
        held = self._held.get(made, lambda: Held(pipeline.index(video, on_chunk=on_chunk), looking))
        if not looking <= held.oracles:
            held.index = pipeline.with_features(held.index, video)
            held.oracles |= looking
        return held.index

    def question(self, text: str, follows: bool = False) -> Question:
        """A question about the video. follows: it knows the turns before it.

        Raises X2LError if it is empty, or no video was opened.
        """
        self.opened()
        if not text.strip():
            raise X2LError("question: is empty")
        return Question(text, history=self.turns if follows else ())

    def ask(
        self, question: Question, recipe: Recipe, on_chunk: OnChunk = None, on_text: OnText = None
    ) -> tuple[VideoIndex, Answer]:
        """The answer, and the index that it is from. on_chunk, on_text: as of Pipeline.index and ask."""
        index = self.index(recipe, on_chunk)
        return index, self._pipeline_of(recipe).ask(index, question, on_text, **self._generation)

    def first_token_s(self, question: Question, recipe: Recipe) -> float:
        """Seconds from the question to its first token, the median of a few; the index is at hand."""
        index, pipeline = self.index(recipe), self._pipeline_of(recipe)
        answers = [pipeline.ask(index, question, max_new_tokens=1) for _ in range(TIMES)]
        return median(answer.first_token_s for answer in answers)
