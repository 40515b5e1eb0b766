"""Needle videos as visual tokens with questions, drawn on the fly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import IterableDataset

from x2l.backbones.video_xl import VideoXL
from x2l.from_scratch.curriculum import Curriculum, Shape
from x2l.from_scratch.frames import noisy
from x2l.from_scratch.packing import IGNORED, Packed, pack
from x2l.items import kind_of
from x2l.needles import backgrounds
from x2l.needles.questions import GROUPS, ask_all
from x2l.needles.render import Renderer
from x2l.needles.world import Script, write_script
from x2l.preprocessing.pixels import preprocess
from x2l.training.loop import own_steps
from x2l.types import Question, X2LError

BACKGROUNDS_PER_VIDEO = 6
DETAILS = ("detail", "multi_detail")
"""Groups of questions that need L-KVs of the chunks they are about."""


@dataclass(frozen=True)
class NeedleBatch:
    """Videos of one shape with their questions, packed; `kinds` are per video and question.

    retrieval: for each detail question its video, its words' ids and the chunk that holds the answer.
    named_chunks: at each word of the questions that completes the name of a scene, its chunk; else IGNORED.
    """

    shape: Shape
    visual_tokens: Float[Tensor, "videos tokens hidden"]
    packed: Packed
    kinds: list[list[str]]
    retrieval: list[tuple[int, Tensor, int]]
    named_chunks: Int[Tensor, "videos words"]

    def to(self, device: torch.device) -> NeedleBatch:
        return replace(
            self,
            visual_tokens=self.visual_tokens.to(device),
            packed=self.packed.to(device),
            named_chunks=self.named_chunks.to(device),
        )


@dataclass
class NeedleBatches(IterableDataset):
    """One batch per step of the curriculum; batch i depends on (seed, i) only, so that runs resume exactly.

    The tower is frozen here: its tokens are made in the loading process. `backbone` must stay on the CPU,
    because a loading process that is forked cannot use CUDA; give it a copy of the one that is trained.
    """

    curriculum: Curriculum
    backbone: VideoXL
    first_step: int = 0
    in_bf16: bool = False
    """Compute the tower in bf16: it is a fifth of a training step's work in fp32."""

    def __iter__(self) -> Iterator[NeedleBatch]:
        for step in own_steps(self.first_step, self.curriculum.num_steps):
            yield self.batch(step)

    def __len__(self) -> int:
        """Steps of the stage: Lightning counts those before a resumed run's first one as fetched."""
        return self.curriculum.num_steps

    def batch(self, step: int) -> NeedleBatch:
        """The batch of one step. Raises X2LError if a video has none of the stage's questions."""
        rng = np.random.default_rng([self.curriculum.seed, step, 1])
        shape = self.curriculum.shape(step)
        videos = [self._video(rng, step, shape) for _ in range(shape.num_videos)]
        tokens, questions, scripts = zip(*videos, strict=True)
        if not all(questions):
            kinds = ", ".join(self.curriculum.stage(step).questions)
            raise X2LError(f"step {step}: no question of {kinds} fits a video of {shape.num_chunks} chunks")
        packed = pack([[self._pair(question) for question in row] for row in questions])
        return NeedleBatch(
            shape,
            torch.stack(tokens),
            packed,
            [[kind_of(question) for question in row] for row in questions],
            [
                (video, self.backbone.encode_text(question.text), gold_chunk(question, shape))
                for video, row in enumerate(questions)
                for question in row
                if question.group == "detail"
            ],
            torch.stack([self._named_chunks(*row) for row in zip(packed.ids, scripts, strict=True)]),
        )

    def _named_chunks(self, ids: Int[Tensor, " tokens"], script: Script) -> Int[Tensor, " tokens"]:
        """Behind a pattern and a frame colour that name one scene: scenes are chunks in training."""
        word = self.backbone.tokenizer.convert_tokens_to_ids
        chunks = torch.full_like(ids, IGNORED)
        for scene, (pattern, colour) in named_scenes(script).items():
            named = (ids[:-1] == word(pattern)) & (ids[1:] == word(colour))
            chunks[1:][named] = scene
        return chunks

    def _video(
        self, rng: np.random.Generator, step: int, shape: Shape
    ) -> tuple[Tensor, list[Question], Script]:
        stage = self.curriculum.stage(step)
        script = write_script(
            rng,
            shape.num_chunks,
            shape.frames_per_chunk,
            num_backgrounds=BACKGROUNDS_PER_VIDEO,
            unique_pairs=stage.unique_pairs,
            filler_pairs=stage.filler_pairs,
        )
        picks = rng.integers(len(self._footage), size=BACKGROUNDS_PER_VIDEO)
        renderer = Renderer(self._image_size, [self._footage[i].variant(rng) for i in picks])
        frames = renderer.clip(script, np.arange(script.num_seconds, dtype=float))
        times_s = self.curriculum.times_s(step, shape)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.in_bf16):
            pixels = noisy(preprocess(frames, self._image_size), rng)
            tokens = self.backbone.model.visual_tokens(pixels, torch.from_numpy(times_s)).flatten(0, 1)
        return tokens.float(), self._questions(script, rng, step, shape), script

    @cached_property
    def _footage(self) -> list[backgrounds.Background]:
        return backgrounds.load("train", self.curriculum.seed)

    @property
    def _image_size(self) -> int:
        return self.backbone.model.config.vision.image_size

    def _questions(self, script: Script, rng, step: int, shape: Shape) -> list[Question]:
        """With two levels, details are asked of the detailed chunks, as a good oracle would select."""
        counts = dict(self.curriculum.stage(step).questions)
        if not shape.detailed:
            return ask_all(script, rng, counts)
        wanted = {kind: count for kind, count in counts.items() if GROUPS[kind] in DETAILS}
        questions = ask_all(
            script, rng, counts | {kind: count * shape.num_chunks for kind, count in wanted.items()}
        )
        spans = {script.scenes[i].span_s for i in shape.detailed}
        kept = [q for q in questions if q.group not in DETAILS]
        for kind, count in wanted.items():
            of_kind = (q for q in questions if kind_of(q) == kind and spans.issuperset(q.gold_spans_s))
            kept += islice(of_kind, count)
        return kept

    def _pair(self, question: Question) -> tuple[Tensor, Tensor]:
        return self.backbone.encode_question(question), self.backbone.encode_answer(question.answer)


def named_scenes(script: Script) -> dict[int, tuple[str, str]]:
    """Pattern and frame colour of the scenes that no other scene shares them with, by number."""
    times = Counter(scene.cue for scene in script.scenes)
    return {
        number: (scene.pattern, scene.frame_colour)
        for number, scene in enumerate(script.scenes)
        if times[scene.cue] == 1
    }


def gold_chunk(question: Question, shape: Shape) -> int:
    """The chunk of the only scene asked about: scenes and chunks have the same length in training."""
    return int(question.gold_spans_s[0][0]) // shape.frames_per_chunk
