"""The whole story: index a video once, then ask it as often as you like.

index:  Video -> Clip -> Chunk -> ChunkKV -> VideoIndex
ask:    Question + VideoIndex -> scores -> Plan -> cache -> Answer
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm
from transformers.generation.streamers import BaseStreamer

from x2l import registry, store
from x2l.cache import Positions, assemble
from x2l.clock import Clock
from x2l.interfaces import Backbone, Compressor, Oracle, Selector
from x2l.types import (
    DROPPED,
    KV,
    Answer,
    Chunk,
    ChunkKV,
    IndexSpec,
    Plan,
    Question,
    Span,
    VideoIndex,
    X2LError,
    check_ratios,
)
from x2l.video import Video, open_video


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
        for part in (self.compressor, self.oracle):
            if missing := part.requires - self.backbone.provides:
                names = [registry.name_of(type(method)) for method in (part, self.backbone)]
                raise X2LError(
                    f"{names[0]}: needs {', '.join(sorted(missing))}, which {names[1]} does not provide"
                )

    @torch.no_grad()
    def index(self, video: Video | str | Path, progress: bool = False) -> VideoIndex:
        """Decode, embed and compress a video, chunk by chunk; the index lies in host memory."""
        video = video if isinstance(video, Video) else open_video(video, progress=progress)
        clock = Clock(self.backbone.device)
        features: dict[int, dict] = {}
        with clock.span("prefill"):
            prefix = self.backbone.begin()
            chunks = self._chunks(video, clock, features, progress)
            encoded = self.compressor.encode(self.backbone, prefix, chunks, self.ratios)
            stored = tuple(_in_host_memory(chunk, features[chunk.index]) for chunk in encoded)
        return VideoIndex(prefix.to("cpu"), stored, self._spec(video, clock))

    @torch.no_grad()
    def ask(self, index: VideoIndex, question: Question | str, **generation: Any) -> Answer:
        """Answer from an index; `generation` goes to generate() (max_new_tokens, streamer, ...).

        Raises X2LError if the index was made by another model.
        """
        question = Question(question) if isinstance(question, str) else question
        if not question.text.strip():
            raise X2LError("question: is empty")
        store.check(index, self.backbone)
        self._warn_unknown_words(question)
        clock = Clock(self.backbone.device)
        with clock.span("score"):
            scores = self._scores(question, index) if self.selector.uses_scores else None
            plan = self.selector.choose(scores, index).with_scores(scores)
        with clock.span("assemble"):
            cache = assemble(index, plan, self.backbone, self.positions)
        with clock.span("first_token"):
            streamer = _AtFirstToken(clock, generation.pop("streamer", None))
            ids = self.backbone.encode_question(question)
            text = self.backbone.generate(ids, cache, streamer=streamer, **generation)
        return self._answer(index, plan, text, clock)

    @torch.no_grad()
    def with_features(
        self, index: VideoIndex, video: Video | str | Path, progress: bool = False
    ) -> VideoIndex:
        """The index plus what this oracle stores about each chunk: no second pre-fill.

        Raises X2LError if the index was made from other frames, or by another model.
        """
        store.check(index, self.backbone)
        video = video if isinstance(video, Video) else open_video(video, progress=progress)
        made, given = index.spec.video, json.loads(json.dumps(video.fingerprint()))
        for name in ("sha256", "sampling", "num_frames"):
            if made.get(name) != given[name]:
                raise X2LError(
                    f"{video.path}: {name} is {given[name]}, the index was made from {made.get(name)}"
                )
        asked, frames = min(video.chunk_frames, video.num_frames), index.chunks[0].num_frames
        if asked != frames:
            raise X2LError(f"{video.path}: chunks of {asked} frames, but those of the index have {frames}")
        features: dict[int, dict] = {}
        for _ in self._chunks(video, Clock(self.backbone.device), features, progress):
            pass
        chunks = (
            replace(chunk, features={**chunk.features, **features[chunk.index]}) for chunk in index.chunks
        )
        return replace(index, chunks=tuple(chunks))

    def _chunks(self, video: Video, clock: Clock, features: dict, progress: bool) -> Iterator[Chunk]:
        """Chunks as they are decoded; `features` collects what the oracle prepares."""
        clips = tqdm(video.clips(), "index", video.num_chunks, unit="chunk", delay=1, disable=not progress)
        for number, clip in enumerate(clock.spans("decode", clips)):
            with clock.span("embed"):
                chunk = Chunk(
                    number, clip.times_s, self.backbone.embed(clip.frames, clip.times_s), clip.frames
                )
            with clock.span("prepare"):
                prepared = {name: tensor.cpu() for name, tensor in self.oracle.prepare(chunk).items()}
                features[number] = {self.oracle.key: prepared} if prepared else {}
            yield chunk

    def _spec(self, video: Video, clock: Clock) -> IndexSpec:
        recipe = {"compressor": registry.describe(self.compressor), "ratios": list(self.ratios)}
        recipe["chunk_frames"] = video.chunk_frames
        return IndexSpec(
            self.backbone.identity, self.backbone.geometry, recipe, video.fingerprint(), dict(clock.seconds)
        )

    def _answer(self, index: VideoIndex, plan: Plan, text: str, clock: Clock) -> Answer:
        kept = tuple(
            chunk.levels[ratio].num_tokens if ratio != DROPPED else 0
            for chunk, ratio in zip(index.chunks, plan.ratios, strict=True)
        )
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
        if scores is not None and scores.shape != (len(index.chunks),):
            name = registry.name_of(type(self.oracle))
            raise X2LError(
                f"oracle {name}: scores of shape {tuple(scores.shape)} for {len(index.chunks)} chunks"
            )
        return scores

    def _warn_unknown_words(self, question: Question) -> None:
        texts = [question.text, *question.options, *(text for turn in question.history for text in turn)]
        if unknown := dict.fromkeys(self.backbone.unknown_words(" ".join(texts))):
            # 4: the caller of ask(), which no_grad wraps.
            warnings.warn(f"words that the backbone does not know: {', '.join(unknown)}", stacklevel=4)


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


def _in_host_memory(chunk: ChunkKV, features: dict) -> ChunkKV:
    """Levels that are one object stay one object; packed and stored levels look after themselves."""
    kvs = {id(level): level for level in chunk.levels.values()}
    moved = {key: level.to("cpu") if isinstance(level, KV) else level for key, level in kvs.items()}
    levels = {ratio: moved[id(level)] for ratio, level in chunk.levels.items()}
    return replace(chunk, levels=levels, features=features)


class _AtFirstToken(BaseStreamer):
    """Ends the clock's "first_token" when that arrives, and passes every token on to another streamer."""

    def __init__(self, clock: Clock, inner: BaseStreamer | None):
        self.clock, self.inner = clock, inner
        self.num_puts = 0

    def put(self, value) -> None:
        self.num_puts += 1
        if self.num_puts == 2:  # the first call brings the prompt
            self.clock.switch("later_tokens")
        if self.inner is not None:
            self.inner.put(value)

    def end(self) -> None:
        if self.inner is not None:
            self.inner.end()
