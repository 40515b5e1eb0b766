"""The four parts, and what can be done with them: index, ask, plan, cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from tqdm import tqdm

from x2l.cache import FilledCache, Positions, assemble, planned_levels
from x2l.chunkers.fixed import Fixed
from x2l.clock import Clock
from x2l.config.paths import local_path
from x2l.host_memory import HostMemory
from x2l.interfaces import Backbone, Chunker, Compressor, Oracle, Part, Selector, scores_of
from x2l.on_device import OnDevice
from x2l.pipeline import asking, indexing, streaming
from x2l.pipeline.asking import Asked, OnText
from x2l.pipeline.fitting import check_fit, check_levels
from x2l.pipeline.indexing import Read, Source
from x2l.pipeline.streaming import Frame
from x2l.proportional import OFF, Proportional
from x2l.storage import store
from x2l.storage.growing import growing
from x2l.types import KV, Answer, ChunkKV, Clip, Plan, Question, VideoIndex
from x2l.video import Footage, Sampling
from x2l.waiting import Waiting


@dataclass
class Pipeline:
    """Four parts, the levels that are made of a video, and how it is cut and sampled.

    sampling: of a video that is given by its path.
    kept_bytes: device memory for levels that questions loaded, so that the next does not copy them again.
    Raises X2LError if the backbone does not provide what a part requires, or a field is wrong.
    """

    backbone: Backbone
    compressor: Compressor
    oracle: Oracle
    selector: Selector
    ratios: tuple[int, ...] = (2, 32)
    positions: Positions = "contiguous"
    proportional: Proportional = OFF
    chunker: Chunker = field(default_factory=Fixed)
    sampling: Sampling = field(default_factory=Sampling)
    kept_bytes: int = 0

    def __post_init__(self):
        self.backbone = self.backbone.weighing(self.proportional)
        check_levels(self.ratios, self.positions)
        check_fit(self.backbone, self.compressor, self.oracle, self.chunker)
        for part in self._parts:
            part.own_weights().to(self.backbone.device)
        self._kept = OnDevice(self.backbone.device, self.kept_bytes)

    @torch.no_grad()
    def index(self, video: Source, progress: bool = False, on_chunk: indexing.OnChunk = None) -> VideoIndex:
        """Decode, embed and compress a video, chunk by chunk; the index lies in host memory.

        on_chunk: is given each chunk when it is compressed; its levels may still be on their way.
        """
        video = indexing.opened(video, self.sampling, progress)
        recipe = indexing.made_with(self.compressor, self.ratios, self.chunker)
        clock, host = Clock(self.backbone.device), HostMemory(self.backbone.device)
        with clock.span("chunk"):
            lengths = indexing.chunk_lengths(self.chunker, video, self.backbone, progress)
        reading = indexing.clips(video, lengths, "index", progress)
        with clock.span("prefill"), reading as clips:
            prefix = self.backbone.begin(video.facts)
            read = self.read(clips, prefix.num_tokens, clock)
            encoded = indexing.telling(self.encode(prefix, read), on_chunk)
            stored = tuple(indexing.in_host_memory(chunk, host) for chunk in encoded)
            prefix = prefix.mapped(host.hold)
            host.wait()
        self.backbone.warn_if_too_long(self.backbone.num_read)
        return VideoIndex(prefix, stored, indexing.spec_of(self.backbone, recipe, video, clock))

    def key(self, video: Footage) -> str:
        """Equal for videos of which `index` makes equal indices, whatever their names; of shared weights."""
        recipe = indexing.made_with(self.compressor, self.ratios, self.chunker)
        return indexing.key_of(self.backbone, recipe, self.oracle, video)

    def read(self, clips: Iterable[Clip], position: int, clock: Clock | None = None) -> Iterator[Read]:
        """Each clip as the language model reads it, from a position on, with what the oracle stores of it.

        The end of `clips` ends the video: an exhausted iterator that is fed again is a video of its own.
        """
        return indexing.read(self.backbone, self.oracle, clips, position, clock)

    def encode(self, prefix: KV, read: Iterable[Read]) -> Iterator[ChunkKV]:
        """Compress chunks behind the prefix, one after the other, on the backbone's device.

        Here and in `read`, gradients flow unless the caller switches them off: training runs the same lines.
        """
        return indexing.encode(self.backbone, self.compressor, prefix, read, self.ratios)

    def stream(
        self,
        frames: Iterable[Frame],
        directory: str | Path,
        name: str = "stream",
        remember: Mapping[str, Any] = MappingProxyType({}),
        waiting: Waiting | None = None,
    ) -> Iterator[ChunkKV]:
        """Index a video while it comes, on disk: each chunk is yielded when it is written.

        Meanwhile the index in `directory` is asked as any other, by this process or another one. It ends with
        the frames; one that was begun and not ended goes on behind its last chunk, with later frames. A chunk
        is written when the next has come, because the last of a video is treated as an edge: an ended
        stream is the index that `index` makes of these frames.

        frames: uint8 RGB [height, width, 3] with seconds that ascend. name: of the video, for the index.
        remember: fields of a recipe that the index keeps. waiting: of a source that does not wait for the
        model; what of its sampled frames has no room there is dropped, and it says how many.
        Raises X2LError for frames of another kind; if the folder holds other things or is being written; and
        for a chunker or a sampling that looks at the whole video.
        """
        size = streaming.frames_per_chunk(self.chunker)
        made = (self.backbone, self.compressor, self.ratios, self.chunker, self.sampling)
        host = HostMemory(self.backbone.device)
        with torch.no_grad():
            prefix = self.backbone.begin()
        with growing(local_path(directory), streaming.spec_of(*made, name, remember), prefix) as grown:
            before = grown.chunks
            position = before[-1].next_position if before else prefix.num_tokens
            clips = streaming.clips(frames, self.sampling.fps, size, before, waiting)
            read = indexing.read(self.backbone, self.oracle, clips, position, first=len(before))
            coming = indexing.encode(self.backbone, self.compressor, prefix, read, self.ratios, before)
            for chunk in streaming.without_gradients(coming):
                chunk = indexing.in_host_memory(chunk, host)
                host.wait()
                grown.append(chunk)
                yield chunk
            grown.finish()

    @torch.no_grad()
    def with_features(self, index: VideoIndex, video: Source, progress: bool = False) -> VideoIndex:
        """The index plus what this oracle stores about each chunk, cut as it was: no second pre-fill.

        Raises X2LError if the index was made from other frames, or by another model.
        """
        store.check(index, self.backbone)
        video = indexing.opened(video, self.sampling, progress)
        indexing.require_same_frames(index, video)
        lengths = [chunk.num_frames for chunk in index.chunks]
        with indexing.clips(video, lengths, "read", progress) as clips:
            return indexing.with_features(index, self.read(clips, index.prefix.num_tokens))

    @torch.no_grad()
    def ask(
        self, index: VideoIndex, question: Asked, on_text: OnText | None = None, **generation: Any
    ) -> Answer:
        """Answer from an index. Earlier turns of a conversation are the question's `history`.

        on_text: is given the answer piece by piece. generation: of generate() (max_new_tokens, ...), and the
        `seed` of an answer that is sampled. Raises X2LError if the index was made by another model.
        """
        generation = asking.repeatable(generation)
        question, clock = asking.checked(question, index, self.backbone), Clock(self.backbone.device)
        plan, cache = self._planned(index, question, clock)
        text = asking.write(self.backbone, question, cache, clock, on_text, generation)
        return asking.answered(index, plan, cache, text, clock, generation)

    @torch.no_grad()
    def ask_many(
        self, index: VideoIndex, questions: Sequence[Asked], progress: bool = False, **generation: Any
    ) -> list[Answer]:
        """As `ask` for each question, in their order; what has the same plan shares one assembled cache.

        Each has its own where a part refines it. Its seconds are booked to the first question of a plan; the
        seed is one for all.
        """
        generation = asking.repeatable(generation)
        asked = list(map(partial(asking.checked, index=index, backbone=self.backbone), questions))
        clocks = [Clock(self.backbone.device) for _ in asked]
        plans = []
        for question, clock in zip(asked, clocks, strict=True):
            with clock.span("score"):
                plans.append(self.plan(question, index))
        answers: dict[int, Answer] = {}
        with tqdm(total=len(asked), desc="ask", unit="question", delay=1, disable=not progress) as bar:
            for first, *others in asking.alike(plans, self._parts):
                with clocks[first].span("assemble"):
                    cache = self.cache(index, plans[first], asked[first])
                    length = cache.get_seq_length()
                for i in (first, *others):
                    text = asking.write(self.backbone, asked[i], cache, clocks[i], None, generation)
                    cache.crop(length - cache.get_seq_length())
                    answers[i] = asking.answered(index, plans[i], cache, text, clocks[i], generation)
                    bar.update()
        return [answers[i] for i in range(len(asked))]

    @torch.no_grad()
    def choose(self, index: VideoIndex, question: Question) -> Answer:
        """Answer a multiple-choice question by the letter that the model finds most likely.

        The letters are compared as the question shows them: behind an opening bracket for "(A) red".
        Raises X2LError if the question has no options, the model cannot tell the letters apart, or the
        index was made by another model.
        """
        letters = asking.letters(question, self.backbone)
        question, clock = asking.checked(question, index, self.backbone), Clock(self.backbone.device)
        plan, cache = self._planned(index, question, clock)
        with clock.span("first_token"):
            scores = asking.letter_scores(self.backbone, question, cache, letters)
        answer = asking.answered(index, plan, cache, question.lettered_options[int(scores.argmax())], clock)
        return replace(answer, option_scores=tuple(scores.tolist()))

    @torch.no_grad()
    def plan(self, question: Question, index: VideoIndex) -> Plan:
        """Which level of each chunk answers the question: the oracle scores, the selector chooses.

        Warns where no chunk is kept. Raises X2LError for scores that are not one number per chunk.
        """
        uses_scores = self.selector.uses_scores
        scores = scores_of(self.oracle, question, index, self.backbone) if uses_scores else None
        plan = self.selector.choose(scores, index).with_scores(scores)
        asking.warn_if_empty(plan, self.selector)
        return plan

    def cache(self, index: VideoIndex, plan: Plan, question: Question) -> FilledCache:
        """The cache that a question is answered on: the planned levels, refined by parts that do, joined.

        The one way from a plan to a cache, for training too: gradients flow unless they are switched off.
        Raises X2LError if the plan does not fit the index.
        """
        levels = planned_levels(index, plan, self._kept.ready)
        for part in self._parts:
            if part.refines:
                kvs = [level.materialise() for level in levels]
                levels = part.refine(kvs, plan, question, index, self.backbone)
        return assemble(index, plan, self.backbone, self.positions, levels)

    def _planned(self, index: VideoIndex, question: Question, clock: Clock) -> tuple[Plan, FilledCache]:
        with clock.span("score"):
            plan = self.plan(question, index)
        with clock.span("assemble"):
            return plan, self.cache(index, plan, question)

    @property
    def _parts(self) -> tuple[Part, ...]:
        return self.compressor, self.oracle, self.selector
