"""Scores that were computed elsewhere and lie in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from x2l.config.fields import arguments
from x2l.interfaces import Backbone, Oracle
from x2l.storage.hub import one_line
from x2l.types import Question, VideoIndex, X2LError


@dataclass
class Precomputed(Oracle):
    """Scores by video and question from a file: of any scorer that runs elsewhere, such as InternVideo2.

    path: an .npz with an array [chunks] called "VIDEO/QUESTION" for each question, or a .jsonl with a line
        {"video": ..., "question": ..., "scores": [...]} for each. A video goes by the name of its file, a
        question by its id, or by its text where it has none.

    Raises X2LError, naming file and key, for a file that does not hold such scores, for a question that it
    does not hold, and for scores of another number of chunks.

    Source: Video-X^2L (arXiv 2506.21184), section 3.4: any model that scores clips may be the oracle.
    Differs: the model is not run here.
    """

    path: str

    def __post_init__(self):
        self._scores = read_scores(Path(self.path))

    def score(self, question: Question, index: VideoIndex, backbone: Backbone) -> Float[Tensor, " chunks"]:
        key = f"{index.spec.video.get('file')}/{question.id or question.text}"
        if key not in self._scores:
            raise X2LError(f"oracle.path: {self.path}: holds no scores for {key!r}")
        scores, num_chunks = self._scores[key], len(index.chunks)
        if len(scores) != num_chunks:
            raise X2LError(
                f"oracle.path: {self.path}: {key!r}: expected {num_chunks} chunks, got {len(scores)}"
            )
        return torch.from_numpy(scores)


def read_scores(path: Path) -> dict[str, Float[np.ndarray, " chunks"]]:
    """Every "VIDEO/QUESTION" of a file with its scores. Raises X2LError for what is not a number each."""
    scores: dict[str, Float[np.ndarray, " chunks"]] = {}
    try:
        for key, values in _entries(path):
            if key in scores:
                raise X2LError(f"{key!r} occurs twice")
            if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
                raise X2LError(f"{key!r}: expected a list of numbers, one for each chunk")
            scores[key] = values.astype(np.float32)
    except Exception as error:  # a damaged file fails wherever it is read
        raise X2LError(f"oracle.path: {path}: {one_line(error)}") from error
    return scores


@dataclass(frozen=True)
class Line:
    """A line of a .jsonl."""

    video: str
    question: str
    scores: list[float]


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            yield from stored.items()
    elif path.suffix == ".jsonl":
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            line = Line(**arguments(Line, json.loads(text), f"line {number}", lambda _: None))
            yield f"{line.video}/{line.question}", np.array(line.scores, dtype=float)
    else:
        raise X2LError("expected a file .npz or .jsonl")
