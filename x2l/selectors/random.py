"""A lower bound: chunks that have nothing to do with the question."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from x2l.selectors._plan import DetailSelector
from x2l.types import VideoIndex


@dataclass
class Random(DetailSelector):
    """`k` chunks drawn at random, the same for every question on a video.

    The draw depends on `seed`, the video's fingerprint and its number of chunks, and on nothing else.

    Source: Video-X^2L (arXiv 2506.21184), Table 3, row "Random".
    """

    uses_scores = False

    seed: int = 0

    def pick(self, k: int, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        video = json.dumps(dict(index.spec.video), sort_keys=True)
        draw = random.Random(f"{self.seed} {video}")
        return draw.sample(range(len(index.chunks)), k)
