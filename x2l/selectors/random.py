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

    The draw depends on `seed`, the video's content and sampling and its number of chunks, and on nothing
    else: a copy under another name, or another reader, gives the same.

    Source: Video-X^2L (arXiv 2506.21184), Table 3, row "Random".
    """

    uses_scores = False

    seed: int = 0

    def pick(self, k: int, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Iterable[int]:
        content = {name: value for name, value in index.spec.video.items() if name not in ("file", "reader")}
        draw = random.Random(f"{self.seed} {json.dumps(content, sort_keys=True)}")
        return draw.sample(range(len(index.chunks)), k)
