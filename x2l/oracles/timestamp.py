"""Times that the question itself names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from x2l.errors import require
from x2l.interfaces import Backbone, Oracle
from x2l.oracles._time_phrases import Video, named_spans
from x2l.oracles._timeline import Span, overlap_s, reaches_s
from x2l.types import Question, VideoIndex


@dataclass
class Timestamp(Oracle):
    """Share of each chunk that lies in the time that the question names: "at 1:23", "in the last minute".

    Reads English: times (1:23, 01:02:03, 83 s, one minute and 23 seconds), spans between two of them, before
    and after one, "first" and "last" with one; the beginning, the middle and the end, a tenth of the video
    each; halves, thirds, quarters; the n-th minute; frames by number, from 0 on. Of several each counts.
    Abstains where the question names no time, or none that the video has.

    fps: frames per second by which the question counts frames; None: it counts those that were sampled.

    Source: Video-X^2L (arXiv 2506.21184), which names time references as a limitation.
    Differs: not in the paper.
    """

    fps: float | None = None

    def __post_init__(self):
        require(self.fps is None or self.fps > 0, "oracle.fps", "more than 0", self.fps)

    def score(
        self, question: Question, index: VideoIndex, backbone: Backbone
    ) -> Float[Tensor, " chunks"] | None:
        reaches = reaches_s(index.chunks)
        spans = named_spans(question.text, Video(reaches[-1][1], self._frame_s(index)))
        shares = torch.tensor([_share(reach, spans) for reach in reaches])
        return shares if shares.any() else None

    def _frame_s(self, index: VideoIndex) -> Callable[[int], Span | None]:
        """From the number of a frame to when it is shown."""
        if self.fps is not None:
            return lambda number: (number / self.fps, (number + 1) / self.fps)
        shown = [np.linspace(chunk.start_s, chunk.end_s, chunk.num_frames) for chunk in index.chunks]
        bounds_s = [*np.concatenate(shown).tolist(), reaches_s(index.chunks)[-1][1]]
        return lambda number: tuple(bounds_s[number : number + 2]) if number < len(bounds_s) - 1 else None


def _share(reach: Span, spans: Sequence[Span]) -> float:
    """Share of a chunk that lies in the span that holds most of it."""
    return max((overlap_s(reach, span) for span in spans), default=0.0) / (reach[1] - reach[0])
