"""The whole story: index a video once, then ask it as often as you like.

index:  Video -> Clip -> Chunk -> ChunkKV -> VideoIndex
ask:    Question + VideoIndex -> scores -> Plan -> cache -> Answer
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from x2l import registry, scenes
from x2l.cache import FilledCache, Positions, assemble, planned_levels
from x2l.clock import AtFirstToken, Clock
from x2l.interfaces import Backbone, Compressor, Oracle, Part, Selector
from x2l.storage import store
from x2l.types import (
    DROPPED,
    KV,
    Answer,
    Chunk,
    ChunkKV,
    Clip,
    IndexSpec,
    Plan,
    Question,
    Span,
    VideoIndex,
    X2LError,
    check_ratios,
)
from x2l.video import SCENES, Footage, open_video

Features = Mapping[str, Mapping[str, Tensor]]
"""What oracles store about a chunk, by their key."""
Read = tuple[Chunk, Features]
"""What the language model reads of a clip, and what the oracle stores of it."""

_STILL = 10
"""Frames of a chunk where no scenes are found."""


@dataclass
class Pipeline:
    """Four parts and how finely to cut the video.

    Raises X2LError if the backbone does not provide what a part requires, or a field is wrong.
    """

    backbone: Backbone
    compressor: Compressor
    oracle: Oracle
    selector: Selector
    ratios: tuple[int, ...] = (2, 32)
    positions: Positions = "contiguous"

    def __post_init__(self):
        check_ratios(self.ratios)
        if self.positions not in get_args(Positions):
            raise X2LError(f"positions: expected one of {get_args(Positions)}, got {self.positions!r}")
        for part in (self.compressor, *self.oracle.with_inner()):
            self._require(registry.name_of(type(part)), part.requires)
        for part in self._parts:
            part.own_weights().to(self.backbone.device)

    def require_frame_features(self) -> None:
        """Raise X2LError if the backbone cannot tell where a scene ends."""
        self._require("chunk_frames: scenes", {"frame_features"})

    def _require(self, what: str, capabilities: Collection[str]) -> None:
        if missing := {*capabilities} - self.backbone.provides:
            name = registry.name_of(type(self.backbone))
            raise X2LError(f"{what}: needs {', '.join(sorted(missing))}, which {name} does not provide")

    @torch.no_grad()
    def index(self, video: Footage | str | Path, progress: bool = False) -> VideoIndex:
        """Decode, embed and compress a video, chunk by chunk; the index lies in host memory.

        Chunks that are scenes are found in a first pass over the frames.
        """
        video = video if isinstance(video, Footage) else open_video(video, progress=progress)
        recipe, clock = self._index_recipe(video), Clock(self.backbone.device)
        lengths = self._chunk_lengths(video, clock, progress)
        with clock.span("prefill"):
            prefix = self.backbone.begin(video.facts)
            read = self.read(_clips(video, lengths, "index", progress), prefix.num_tokens, clock)
            stored = tuple(in_host_memory(chunk) for chunk in self.encode(prefix, read))
        spec = IndexSpec(
            self.backbone.identity, self.backbone.geometry, recipe, video.fingerprint(), dict(clock.seconds)
        )
        return VideoIndex(prefix.to("cpu"), stored, spec)

    def read(self, clips: Iterable[Clip], position: int, clock: Clock | None = None) -> Iterator[Read]:
        """What the language model reads of each clip, from a position on, and what the oracle stores."""
        # Where nobody asks for the seconds, nobody waits for a device.
        clock = clock or Clock(torch.device("cpu"))
        oracles = {oracle.key: oracle for oracle in self.oracle.with_inner()}
        for number, clip in enumerate(clock.spans("decode", clips)):
            with clock.span("embed"):
                chunk = self.backbone.read(number, clip, position)
                position = chunk.next_position
            if position is None:
                name = registry.name_of(type(self.backbone))
                raise X2LError(f"backbone {name}: read() must say next_position, where the chunk ends")
            with clock.span("prepare"), torch.no_grad():
                features = self._prepared(chunk, oracles)
            yield chunk, features

    def _prepared(self, chunk: Chunk, oracles: Mapping[str, Oracle]) -> Features:
        """What the oracle and those that it asks store of a chunk by their keys, in host memory."""
        prepared = {key: oracle.prepare(chunk, self.backbone) for key, oracle in oracles.items()}
        return {
            key: {name: tensor.cpu() for name, tensor in features.items()}
            for key, features in prepared.items()
            if features
        }

    def encode(self, prefix: KV, read: Iterable[Read]) -> Iterator[ChunkKV]:
        """Compress chunks behind the prefix, one after the other, on the backbone's device.

        Here and in `read`, gradients flow unless the caller switches them off: training runs the same lines.
        """
        features: dict[int, Features] = {}

        def chunks() -> Iterator[Chunk]:
            for chunk, prepared in read:
                features[chunk.index] = prepared
                yield chunk

        for chunk in self.compressor.encode(self.backbone, prefix, chunks(), self.ratios):
            yield replace(chunk, features=features.pop(chunk.index))

    @torch.no_grad()
    def ask(
        self,
        index: VideoIndex,
        question: Question | str,
        on_text: Callable[[str], Any] | None = None,
        **generation: Any,
    ) -> Answer:
        """Answer from an index. Earlier turns of a conversation are the question's `history`.

        on_text: is given the answer piece by piece while it is written. `generation` goes to generate()
        (max_new_tokens, do_sample, stop_strings, ...).
        Raises X2LError if the index was made by another model.
        """
        question, clock = self._checked(question, index), Clock(self.backbone.device)
        plan, cache = self._plan_and_cache(question, index, clock)
        text = self._write(question, cache, clock, on_text, generation)
        return self._answer(index, plan, cache, text, clock)

    @torch.no_grad()
    def ask_many(
        self,
        index: VideoIndex,
        questions: Sequence[Question | str],
        progress: bool = False,
        **generation: Any,
    ) -> list[Answer]:
        """As `ask` for each question, in their order; what has the same plan shares one assembled cache.

        Where a part refines it (`Part.refine`), each question has its own.

        The assembly and its copy to the device are booked to the first question of a plan.
        """
        asked = list(map(partial(self._checked, index=index), questions))
        clocks = [Clock(self.backbone.device) for _ in asked]
        plans = [self._plan(question, index, clock) for question, clock in zip(asked, clocks, strict=True)]
        answers: dict[int, Answer] = {}
        with tqdm(total=len(asked), desc="ask", unit="question", delay=1, disable=not progress) as bar:
            for alike in self._alike(plans):
                first = alike[0]
                with clocks[first].span("assemble"):
                    cache = self.cache(index, plans[first], asked[first])
                    length = cache.get_seq_length()
                for i in alike:
                    text = self._write(asked[i], cache, clocks[i], None, dict(generation))
                    cache.crop(length - cache.get_seq_length())
                    answers[i] = self._answer(index, plans[i], cache, text, clocks[i])
                    bar.update()
        return [answers[i] for i in range(len(asked))]

    @torch.no_grad()
    def choose(self, index: VideoIndex, question: Question) -> Answer:
        """Answer a multiple-choice question by the letter that the model finds most likely.

        The letters are compared behind an opening bracket, as the question shows them: "(A) red".
        Raises X2LError if the question has no options, the model cannot tell the letters apart, or the
        index was made by another model.
        """
        if not question.options:
            raise X2LError(f"question {question.id or question.text!r}: has no options to choose from")
        letters = [self.backbone.encode_text(letter) for letter in question.letters]
        unknown = self.backbone.unknown_words(" ".join(question.letters))
        if unknown or len({ids[:1].item() for ids in letters if len(ids)}) < len(letters):
            raise X2LError(
                f"{registry.name_of(type(self.backbone))}: cannot tell the letters of options apart"
            )
        question, clock = self._checked(question, index), Clock(self.backbone.device)
        plan, cache = self._plan_and_cache(question, index, clock)
        with clock.span("first_token"):
            prompt = [self.backbone.encode_question(question), self.backbone.encode_text("(")]
            logits = self.backbone.logits(torch.cat(prompt), cache)[-1]
            scores = logits[torch.cat([ids[:1] for ids in letters])].log_softmax(dim=-1)
        best = int(scores.argmax())
        answer = self._answer(index, plan, cache, question.lettered_options[best], clock)
        return replace(answer, option_scores=tuple(scores.tolist()))

    def _checked(self, question: Question | str, index: VideoIndex) -> Question:
        question = Question(question) if isinstance(question, str) else question
        if not question.text.strip():
            raise X2LError("question: is empty")
        store.check(index, self.backbone)
        self._warn_unknown_words(question)
        return question

    def _plan_and_cache(
        self, question: Question, index: VideoIndex, clock: Clock
    ) -> tuple[Plan, FilledCache]:
        plan = self._plan(question, index, clock)
        with clock.span("assemble"):
            return plan, self.cache(index, plan, question)

    def _alike(self, plans: Sequence[Plan]) -> list[list[int]]:
        """Numbers of the questions that can be asked on one cache."""
        if any(type(part).refine is not Part.refine for part in self._parts):
            return [[i] for i in range(len(plans))]
        alike: dict[tuple[int, ...], list[int]] = {}
        for i, plan in enumerate(plans):
            alike.setdefault(plan.ratios, []).append(i)
        return list(alike.values())

    def _plan(self, question: Question, index: VideoIndex, clock: Clock) -> Plan:
        with clock.span("score"):
            return self.plan(question, index)

    def _write(
        self,
        question: Question,
        cache: FilledCache,
        clock: Clock,
        on_text: Callable[[str], Any] | None,
        generation: dict[str, Any],
    ) -> str:
        with clock.span("first_token"):
            inner = generation.pop("streamer", None) or (on_text and self.backbone.streamer(on_text))
            ids, streamer = self.backbone.encode_question(question), AtFirstToken(clock, inner)
            text = self.backbone.generate(ids, cache, streamer=streamer, **generation)
        if on_text and inner is None:
            on_text(text)
        return text

    @torch.no_grad()
    def plan(self, question: Question, index: VideoIndex) -> Plan:
        """Which level of each chunk answers the question: the oracle scores, the selector chooses.

        Warns where no chunk is kept. Raises X2LError for scores that are not one number per chunk.
        """
        scores = self._scores(question, index) if self.selector.uses_scores else None
        plan = self.selector.choose(scores, index).with_scores(scores)
        if not any(plan.ratios):
            name = registry.name_of(type(self.selector))
            warnings.warn(f"selector {name}: keeps no chunk, the answer is a guess", stacklevel=2)
        return plan

    def cache(self, index: VideoIndex, plan: Plan, question: Question) -> FilledCache:
        """The cache that a question is answered on: the planned levels, refined by parts that do, joined.

        The one way from a plan to a cache, for training too: gradients flow unless they are switched off.
        Raises X2LError if the plan does not fit the index.
        """
        levels = planned_levels(index, plan)
        for part in self._parts:
            levels = part.refine(levels, plan, question, index, self.backbone)
        return assemble(index, plan, self.backbone, self.positions, levels)

    @property
    def _parts(self) -> tuple[Part, ...]:
        return self.compressor, self.oracle, self.selector

    @torch.no_grad()
    def with_features(
        self, index: VideoIndex, video: Footage | str | Path, progress: bool = False
    ) -> VideoIndex:
        """The index plus what this oracle stores about each chunk: no second pre-fill.

        The video is cut as the index was, whatever its own `chunk_frames`.
        Raises X2LError if the index was made from other frames, or by another model.
        """
        store.check(index, self.backbone)
        video = video if isinstance(video, Footage) else open_video(video, progress=progress)
        made, given = index.spec.video, json.loads(json.dumps(video.fingerprint()))
        for name in ("sha256", "sampling", "num_frames"):
            if made.get(name) != given[name]:
                raise X2LError(
                    f"{video.path}: {name} is {given[name]}, the index was made from {made.get(name)}"
                )
        lengths = [chunk.num_frames for chunk in index.chunks]
        read = self.read(_clips(video, lengths, "read", progress), index.prefix.num_tokens)
        chunks = (
            replace(chunk, features={**chunk.features, **features})
            for chunk, (_, features) in zip(index.chunks, read, strict=True)
        )
        return replace(index, chunks=tuple(chunks))

    def _chunk_lengths(self, video: Footage, clock: Clock, progress: bool) -> list[int]:
        """Frames of each chunk."""
        if video.chunk_frames != SCENES:
            return video.chunks_of(video.chunk_frames)
        self.require_frame_features()
        equal = video.chunks_of(_STILL)
        clips = clock.spans("decode", _clips(video, equal, "find scenes", progress))
        with clock.span("embed"):
            features = torch.cat([self.backbone.frame_features(clip.frames).float() for clip in clips])
        return scenes.chunk_frames(features) or equal

    def _index_recipe(self, video: Footage) -> dict[str, Any]:
        """What the index will say it was made with. Raises X2LError for a field that is not plain data."""
        return {
            "compressor": described(self.compressor),
            "ratios": list(self.ratios),
            "chunk_frames": video.chunk_frames,
        }

    def _answer(self, index: VideoIndex, plan: Plan, cache: FilledCache, text: str, clock: Clock) -> Answer:
        kept = cache.tokens_per_chunk
        bytes_per_token = index.spec.geometry.bytes_per_token
        seconds = {**index.spec.seconds, **clock.seconds}
        return Answer(
            text=text,
            plan=plan,
            evidence=evidence(index, plan),
            kv_tokens_per_chunk=kept,
            kv_bytes=sum(kept) * bytes_per_token,
            kv_tokens_full=index.num_visual_tokens,
            kv_bytes_full=index.num_visual_tokens * bytes_per_token,
            seconds={**seconds, "total": sum(seconds.values())},
        )

    def _scores(self, question: Question, index: VideoIndex) -> Float[Tensor, " chunks"] | None:
        scores = self.oracle.score(question, index, self.backbone)
        name, num_chunks = registry.name_of(type(self.oracle)), len(index.chunks)
        if scores is not None and scores.shape != (num_chunks,):
            raise X2LError(f"oracle {name}: scores of shape {tuple(scores.shape)} for {num_chunks} chunks")
        if scores is not None and scores.isnan().any():
            chunk = int(scores.isnan().nonzero()[0])
            raise X2LError(f"oracle {name}: the score of chunk {chunk} is not a number")
        return scores

    def _warn_unknown_words(self, question: Question) -> None:
        texts = [question.text, *question.options, *(text for turn in question.history for text in turn)]
        if unknown := dict.fromkeys(self.backbone.unknown_words(" ".join(texts))):
            # 5: the caller of ask() or ask_many(), which no_grad wraps.
            warnings.warn(f"words that the backbone does not know: {', '.join(unknown)}", stacklevel=5)


def described(part: Part) -> dict[str, Any]:
    """A part's spec; weights of its own by what they are, not by where they lie."""
    spec = registry.describe(part)
    return spec | {"weights": part.identity} if part.identity else spec


def evidence(index: VideoIndex, plan: Plan) -> tuple[Span, ...]:
    """The chunks that were re-loaded in more detail than the others, in temporal order."""
    if len(set(plan.ratios)) == 1:
        return ()
    detailed = min(ratio for ratio in plan.ratios if ratio != DROPPED)
    scores = plan.scores or [None] * len(plan.ratios)
    return tuple(
        Span(chunk.index, chunk.start_s, chunk.end_s, score)
        for chunk, ratio, score in zip(index.chunks, plan.ratios, scores, strict=True)
        if ratio == detailed
    )


def in_host_memory(chunk: ChunkKV) -> ChunkKV:
    """Off the device. What is one object stays one object; a level without `to` lies on no device."""
    kvs = {id(level): level for level in chunk.levels.values()}
    moved = {key: level.to("cpu") if hasattr(level, "to") else level for key, level in kvs.items()}
    levels = {ratio: moved[id(level)] for ratio, level in chunk.levels.items()}
    return replace(chunk, levels=levels)


def _clips(video: Footage, lengths: list[int], doing: str, progress: bool) -> Iterator[Clip]:
    """A clip for each chunk, behind a progress bar."""
    clips = tqdm(video.clips(lengths), doing, len(lengths), unit="chunk", delay=1, disable=not progress)
    return iter(clips)
