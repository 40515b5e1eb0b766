"""Scenes of needle videos as pixels, with questions that name some of them, drawn on the fly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerBase

from x2l.errors import X2LError, require, unknown
from x2l.from_scratch.frames import FILE_SIZE, noisy
from x2l.from_scratch.needle_batches import BACKGROUNDS_PER_VIDEO, DETAILS
from x2l.items import kind_of
from x2l.needles import backgrounds
from x2l.needles.questions import ask_all
from x2l.needles.render import Renderer
from x2l.needles.video_file import compressed
from x2l.needles.world import Script, check_pairs, write_script
from x2l.preprocessing.pixels import preprocess
from x2l.training.loop import own_steps
from x2l.types import Question

KINDS = ("detail", "scoped", "pair", "before")
"""Questions whose gold spans are the scenes they name, and no others."""


@dataclass(frozen=True)
class SceneOptions:
    """Options of what one step draws.

    questions: at most so many per video, by kind.
    unique_pairs, filler_pairs: see x2l.needles.world.write_script.
    """

    videos: int
    scenes: int
    frames_per_scene: int
    unique_pairs: int
    filler_pairs: int
    questions: dict[str, int]

    def check(self, path: str) -> None:
        """Raise X2LError naming the field under `path` that no step can have."""
        require(self.scenes > 1, f"{path}.scenes", "2 or more", self.scenes)
        check_pairs(self.unique_pairs, self.filler_pairs, f"{path}.")
        for kind, count in self.questions.items():
            if kind not in KINDS:
                raise unknown(f"{path}.questions.{kind}", kind, KINDS)
            require(count >= 0, f"{path}.questions.{kind}", "0 or more", count)


@dataclass(frozen=True)
class SceneBatch:
    """Videos of one shape, and questions with the video and the scenes of it that each is about.

    names_card: whether a question says what its scenes show, apart from what frames them.
    """

    pixels: Float[Tensor, "videos scenes frames 3 size size"]
    ids: Int[Tensor, "questions tokens"]
    mask: Int[Tensor, "questions tokens"]
    video: Int[Tensor, " questions"]
    gold: Bool[Tensor, "questions scenes"]
    names_card: Bool[Tensor, " questions"]
    kinds: list[str]

    def to(self, device: torch.device) -> SceneBatch:
        moved = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, **moved)


@dataclass
class SceneBatches(IterableDataset):
    """One batch per step; batch i depends on (seed, i) only, so that runs resume exactly.

    Half of the videos are drawn at the tower's size, half at the size of video files, compressed as a codec
    would and scaled down by the tower's own pre-processing.
    """

    options: SceneOptions
    tokenizer: PreTrainedTokenizerBase
    image_size: int
    num_steps: int
    seed: int
    first_step: int = 0

    def __iter__(self) -> Iterator[SceneBatch]:
        for step in own_steps(self.first_step, self.num_steps):
            yield self.batch(step)

    def __len__(self) -> int:
        """Steps of the run: Lightning counts those before a resumed run's first one as fetched."""
        return self.num_steps

    def batch(self, step: int) -> SceneBatch:
        """The batch of one step. Raises X2LError if none of its videos has one of the questions."""
        rng = np.random.default_rng([self.seed, step])
        scripts = [self._script(rng) for _ in range(self.options.videos)]
        asked = [
            (video, question)
            for video, script in enumerate(scripts)
            for question in ask_all(script, rng, self.options.questions)
        ]
        if not asked:
            kinds = ", ".join(self.options.questions)
            raise X2LError(
                f"step {step}: no question of {kinds} fits a video of {self.options.scenes} scenes"
            )
        videos, questions = zip(*asked, strict=True)
        text = self.tokenizer([question.text for question in questions], padding=True, return_tensors="pt")
        return SceneBatch(
            pixels=torch.stack([self._pixels(script, rng) for script in scripts]),
            ids=text["input_ids"],
            mask=text["attention_mask"],
            video=torch.tensor(videos),
            gold=torch.tensor([gold_scenes(scripts[video], question) for video, question in asked]),
            names_card=torch.tensor([question.group in DETAILS for question in questions]),
            kinds=[kind_of(question) for question in questions],
        )

    def _script(self, rng: np.random.Generator) -> Script:
        options = self.options
        return write_script(
            rng,
            options.scenes,
            options.frames_per_scene,
            num_backgrounds=BACKGROUNDS_PER_VIDEO,
            unique_pairs=options.unique_pairs,
            filler_pairs=options.filler_pairs,
        )

    def _pixels(self, script: Script, rng: np.random.Generator) -> Float[Tensor, "scenes frames 3 size size"]:
        picks = rng.integers(len(self._footage), size=BACKGROUNDS_PER_VIDEO)
        size = FILE_SIZE if rng.random() < 0.5 else self.image_size
        renderer = Renderer(size, [self._footage[i].variant(rng) for i in picks])
        frames = renderer.clip(script, np.arange(script.num_seconds, dtype=float))
        if size == FILE_SIZE:
            frames = np.stack([compressed(frame, rng) for frame in frames])
        pixels = noisy(preprocess(frames, self.image_size), rng)
        return rearrange(
            pixels, "(scenes frames) c h w -> scenes frames c h w", frames=script.seconds_per_scene
        )

    @cached_property
    def _footage(self) -> list[backgrounds.Background]:
        return backgrounds.load("train", self.seed)


def gold_scenes(script: Script, question: Question) -> list[bool]:
    """For each scene, whether the question is about it."""
    return [scene.span_s in question.gold_spans_s for scene in script.scenes]
