"""The curriculum: lengths, ratios and questions by stage."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from x2l.errors import require, unknown
from x2l.needles.questions import TEMPLATES
from x2l.needles.world import MAX_UNIQUE_PAIRS, NUM_PAIRS, check_pairs
from x2l.training.levels import check_weights_of_ratios, ratios_of, require_weights

TOKENS_PER_QUESTION = 20


@dataclass
class Stage:
    """One stretch of the curriculum; every step draws from it anew.

    num_steps: optimiser steps.
    chunks, frames_per_chunk: inclusive ranges.
    ratios: weight of each way to compress, by name: "1" uncompressed, "8" one level at 8x, "2/32" two
        levels and a random plan.
    questions: at most so many per video, by kind.
    tokens_per_step: visual and (about) question tokens per step; as many videos as fit, at least one.
    lr: factor on the learning rates.
    unique_pairs, filler_pairs: see x2l.needles.world.write_script.
    seconds_per_chunk: how long a chunk is said to last, however few frames it has; None: a second per frame.
    time_weight: of the loss on when a named scene was seen, for questions of order.
    is_read_last: the words of a question do not see the video, only the tokens that write the answer do.
    """

    num_steps: int
    chunks: tuple[int, int]
    frames_per_chunk: tuple[int, int]
    ratios: dict[str, float]
    questions: dict[str, int]
    tokens_per_step: int = 4000
    lr: float = 1.0
    unique_pairs: int = MAX_UNIQUE_PAIRS
    filler_pairs: int = NUM_PAIRS - MAX_UNIQUE_PAIRS
    seconds_per_chunk: float | None = None
    time_weight: float = 0.0
    is_read_last: bool = False

    def check(self, path: str) -> None:
        """Raise X2LError naming the field under `path` that no video can have."""
        for name in ("num_steps", "tokens_per_step", "lr"):
            require(getattr(self, name) > 0, f"{path}.{name}", "a positive number", getattr(self, name))
        seconds = self.seconds_per_chunk
        require(seconds is None or seconds > 0, f"{path}.seconds_per_chunk", "a positive number", seconds)
        require(self.time_weight >= 0, f"{path}.time_weight", "a number of 0 or more", self.time_weight)
        for name in ("chunks", "frames_per_chunk"):
            lowest, highest = getattr(self, name)
            require(1 <= lowest <= highest, f"{path}.{name}", "1 <= first <= last", [lowest, highest])
        check_pairs(self.unique_pairs, self.filler_pairs, f"{path}.")
        check_weights_of_ratios(self.ratios, f"{path}.ratios")
        for kind in self.questions:
            if kind not in TEMPLATES:
                raise unknown(f"{path}.questions.{kind}", kind, TEMPLATES)
        require_weights(self.questions, f"{path}.questions")


@dataclass(frozen=True)
class Shape:
    """The geometry of one step: every video of the batch has it."""

    num_chunks: int
    frames_per_chunk: int
    num_videos: int
    ratios: tuple[int, ...]
    edge_ratio: int | None
    detailed: tuple[int, ...] = ()
    """Chunks at the low ratio, where there are two levels."""

    @property
    def plan(self) -> tuple[int, ...]:
        low, high = min(self.ratios), max(self.ratios)
        return tuple(low if i in self.detailed else high for i in range(self.num_chunks))


@dataclass
class Curriculum:
    """Stages one after the other; `shape(step)` depends on the seed and the step only."""

    stages: list[Stage]
    seed: int
    tokens_per_frame: int = 16
    """Of the backbone: decides how many videos fit into a step."""
    _ends: list[int] = field(init=False)

    def __post_init__(self):
        self._ends = np.cumsum([stage.num_steps for stage in self.stages]).tolist()

    @property
    def num_steps(self) -> int:
        return self._ends[-1]

    def stage(self, step: int) -> Stage:
        return self.stages[np.searchsorted(self._ends, step, side="right")]

    def shape(self, step: int) -> Shape:
        stage, rng = self.stage(step), np.random.default_rng([self.seed, step, 0])
        num_chunks = int(rng.integers(stage.chunks[0], stage.chunks[1] + 1))
        frames = int(rng.integers(stage.frames_per_chunk[0], stage.frames_per_chunk[1] + 1))
        names, weights = zip(*stage.ratios.items(), strict=True)
        name = rng.choice(names, p=np.array(weights) / sum(weights))
        ratios = ratios_of(str(name))
        # Without inner chunks the first/last rule would leave nothing to compress at any other ratio.
        edge_ratio = 2 if num_chunks > 2 and rng.random() < 0.7 else None
        return Shape(
            num_chunks=num_chunks,
            frames_per_chunk=frames,
            num_videos=self._num_videos(stage, num_chunks * frames),
            ratios=ratios,
            edge_ratio=edge_ratio,
            detailed=_draw_detailed(rng, num_chunks) if len(ratios) > 1 else (),
        )

    def times_s(self, step: int, shape: Shape) -> Float[np.ndarray, " frames"]:
        """When the frames of a video of this step are said to be seen.

        With `seconds_per_chunk`, the next chunk is equally far away in chunks of any number of frames.
        """
        seconds = self.stage(step).seconds_per_chunk or shape.frames_per_chunk
        frames = np.arange(shape.num_chunks * shape.frames_per_chunk, dtype=float)
        return frames * (seconds / shape.frames_per_chunk)

    def _num_videos(self, stage: Stage, num_frames: int) -> int:
        question_tokens = TOKENS_PER_QUESTION * sum(stage.questions.values())
        return max(1, stage.tokens_per_step // (num_frames * self.tokens_per_frame + question_tokens))


def _draw_detailed(rng: np.random.Generator, num_chunks: int) -> tuple[int, ...]:
    """One to four random chunks."""
    count = min(num_chunks, int(rng.integers(1, 5)))
    return tuple(sorted(rng.choice(num_chunks, count, replace=False).tolist()))
