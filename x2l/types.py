"""The nouns of x2l, with their shapes and units.

Units: `_s` seconds, `_bytes` bytes, `num_` counts. A `ratio` is the paper's alpha = tokens in /
tokens kept. A level is *named* by the ratio that was requested; sizes always come from tensors,
because edge chunks and ragged chunks keep more tokens than their name says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from x2l.errors import X2LError as X2LError
from x2l.prompts import PLAIN, Prompt

DROPPED = 0
"""The ratio that a Plan gives to a chunk that is left out of the cache."""


MAX_OPTIONS = 26
"""Most options of a question: one for each letter."""


def check_ratios(ratios: Sequence[int]) -> None:
    """Raise X2LError unless `ratios` are different positive integers, at least one."""
    if not ratios or min(ratios) < 1 or len(set(ratios)) < len(ratios):
        raise X2LError(f"ratios: expected different positive integers, got {list(ratios)}")


@dataclass(frozen=True)
class VideoFacts:
    """Facts of a video before it is decoded: some models are told, some size frames by it."""

    num_frames: int
    """Frames that will be looked at."""
    duration_s: float
    path: Path | None = field(default=None, compare=False)
    """Where its frames come from, for what lies beside them (subtitles); None if that is not known."""


@dataclass(frozen=True)
class Clip:
    """Consecutive sampled frames: frames uint8 RGB [frames, height, width, 3], times in seconds.

    first_frame: how many sampled frames of the video come before. video: None where only the clip is known.
    """

    frames: UInt8[np.ndarray, "frames height width 3"]
    times_s: Float[np.ndarray, " frames"]
    first_frame: int = 0
    video: VideoFacts | None = None


@dataclass(frozen=True)
class Chunk:
    """The unit encoded in one forward call: a clip and its visual tokens [*batch, tokens, hidden].

    visual_tokens: what the language model reads for the clip, in temporal order. Some models read text
        between the frames (time stamps, say): `is_text` tells it apart (None: there is none).
    frames: None where only the tokens are known (training from a cache of tokens).
    positions: rotary positions in the uncompressed sequence; None: the backbone counts on from its memory.
    next_position: where the next chunk, or the question, stands in that sequence.
    frames_per_step: frames that share their tokens (2 where a tower merges pairs).
    deepstack: what is added to the visual tokens behind each of the first layers (Qwen3-VL).
    video: as in Clip.
    """

    index: int
    times_s: Float[np.ndarray, " frames"]
    visual_tokens: Float[Tensor, "*batch tokens hidden"]
    frames: UInt8[np.ndarray, "frames height width 3"] | None = None
    is_text: Bool[Tensor, " tokens"] | None = None
    positions: Int[Tensor, "axes tokens"] | None = None
    next_position: int | None = None
    frames_per_step: int = 1
    deepstack: Float[Tensor, "levels visual hidden"] | None = None
    video: VideoFacts | None = None

    @property
    def num_frames(self) -> int:
        return len(self.times_s)

    @property
    def num_steps(self) -> int:
        """Steps in time that have tokens of their own."""
        return -(-self.num_frames // self.frames_per_step)

    def tokens_by_step(self) -> Float[Tensor, "*batch steps tokens hidden"]:
        """The visual tokens without the text between them, cut into steps in time of equal size."""
        tokens = self.visual_tokens if self.is_text is None else self.visual_tokens[..., ~self.is_text, :]
        return tokens.unflatten(-2, (self.num_steps, -1))


@dataclass(frozen=True)
class KV:
    """Keys and values of some tokens for every layer: [*batch, layers, kv_heads, tokens, head_dim].

    `positions` [axes, *batch, 1 or layers, 1 or kv_heads, tokens] are those of the uncompressed sequence (of
    the pre-fill, for chunks that know none), for a batch also without it; `rotated`: a backbone stores keys
    with the rotary embedding of these positions applied (none that is shipped does). A KV is itself a level.
    counts: how many tokens of the uncompressed chunk each stands for; None: equally many.
    """

    keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"]
    values: Float[Tensor, "*batch layers kv_heads tokens head_dim"]
    positions: Int[Tensor, "axes *#batch #layers #kv_heads tokens"]
    rotated: bool = False
    counts: Float[Tensor, "*#batch tokens"] | None = None

    @property
    def num_tokens(self) -> int:
        return self.keys.shape[-2]

    @property
    def num_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def materialise(self) -> KV:
        return self

    def write(
        self,
        keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
        values: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
    ) -> None:
        """Copy keys and values to where they shall lie; on a device it goes on meanwhile."""
        keys.copy_(self.keys, non_blocking=True)
        values.copy_(self.values, non_blocking=True)

    def part(self, tokens: slice) -> KV:
        """Some of the tokens, as views."""
        return KV(
            self.keys[..., tokens, :],
            self.values[..., tokens, :],
            self.positions[..., tokens],
            self.rotated,
            None if self.counts is None else self.counts[..., tokens],
        )

    def select(self, tokens: Int[Tensor, " selected"]) -> KV:
        """Tokens by their numbers, the same for every layer and head."""
        rows = tokens.to(self.keys.device)
        return KV(
            self.keys.index_select(-2, rows),
            self.values.index_select(-2, rows),
            self.positions.index_select(-1, tokens.to(self.positions.device)),
            self.rotated,
            None if self.counts is None else self.counts[..., tokens.to(self.counts.device)],
        )

    def take(self, indices: Int[Tensor, "*#batch #layers #kv_heads kept"]) -> KV:
        """Some of the tokens, for each layer and head its own, in the order of `indices`.

        Together they stand for what all stood for.
        """
        shape = self.keys.shape[:-2]
        rows = indices.expand(*shape, -1)
        every = rows[..., None].expand(*shape, -1, self.keys.shape[-1])
        positions = expanded(self.positions, shape)
        stood_for = self.num_tokens if self.counts is None else self.counts.sum(dim=-1, keepdim=True)
        return KV(
            self.keys.gather(-2, every),
            self.values.gather(-2, every),
            positions.gather(-1, rows.expand(len(positions), *rows.shape)),
            self.rotated,
            equal_counts(rows.shape[-1], stood_for),
        )

    def mapped(self, put: Callable[[Tensor], Tensor]) -> KV:
        """With what `put` makes of each tensor, which it may move and nothing else."""
        counts = None if self.counts is None else put(self.counts)
        return KV(put(self.keys), put(self.values), put(self.positions), self.rotated, counts)

    def to(self, *args, **kwargs) -> KV:
        """Move or cast keys and values (as Tensor.to); positions move, but stay integers."""
        keys = self.keys.to(*args, **kwargs)
        values = self.values.to(*args, **kwargs)
        counts = None if self.counts is None else self.counts.to(keys.device)
        return KV(keys, values, self.positions.to(keys.device), self.rotated, counts)


@dataclass(frozen=True)
class Observed:
    """Observations of a chunk while it was pre-filled, in every layer; None where nobody asked for it.

    queries: before rotation, as keys are. hidden: what each layer's projections read.
    attend: attention weights of the chunk's last n tokens to its tokens, formed when it is called.
    No gradient flows through any of them.
    """

    queries: Float[Tensor, "*batch layers heads tokens head_dim"] | None = None
    hidden: Float[Tensor, "*batch layers tokens hidden"] | None = None
    attend: Callable[[int], Float[Tensor, "*batch layers heads last tokens"]] | None = None


@dataclass(frozen=True)
class ObservedKV(KV):
    """A chunk's KV on its way to a compressor, with what the compressor asked to observe."""

    observed: Observed = Observed()
    first: int = 0
    """Number of the first of these tokens in its chunk: text between frames cuts a chunk into runs."""

    @property
    def columns(self) -> slice:
        """Numbers of these tokens in their chunk."""
        return slice(self.first, self.first + self.num_tokens)

    @property
    def queries(self) -> Float[Tensor, "*batch layers heads tokens head_dim"]:
        return self.observed.queries[..., self.columns, :]

    @property
    def hidden(self) -> Float[Tensor, "*batch layers tokens hidden"]:
        return self.observed.hidden[..., self.columns, :]

    def attention(self, last: int) -> Float[Tensor, "*batch layers kv_heads last tokens"]:
        """Attention of the chunk's last tokens to these, mean over the heads that share keys (sums <= 1)."""
        weights = self.observed.attend(last)[..., self.columns]
        return weights.unflatten(-3, (self.keys.shape[-3], -1)).mean(dim=-3)

    def part(self, tokens: slice) -> ObservedKV:
        """Consecutive tokens, as views."""
        start, stop, _ = tokens.indices(self.num_tokens)
        kv = super().part(slice(start, stop))
        return ObservedKV(**vars(kv), observed=self.observed, first=self.first + start)

    def plain(self) -> KV:
        """Without what was observed, as it is stored."""
        return KV(self.keys, self.values, self.positions, self.rotated, self.counts)


def equal_counts(
    num_tokens: int, stood_for: int | float | Float[Tensor, "*batch 1"]
) -> Float[Tensor, "*batch tokens"]:
    """Counts of tokens that share what they stand for equally."""
    each = torch.as_tensor(stood_for / num_tokens)
    return each.expand(*each.shape[:-1], num_tokens).contiguous()


def joined(pieces: Iterable[KV]) -> KV:
    """The tokens of all pieces in order, as one KV. Raises X2LError if only some are rotated."""
    pieces = list(pieces)
    return KV(
        torch.cat([kv.keys for kv in pieces], dim=-2),
        torch.cat([kv.values for kv in pieces], dim=-2),
        joined_positions(pieces),
        rotated_alike(pieces),
        joined_counts(pieces),
    )


def joined_positions(pieces: Sequence[Writable]) -> Int[Tensor, "axes *#batch #layers #kv_heads tokens"]:
    """Positions of all tokens, where the first lie; spelt out for each layer and head if one piece's are."""
    shape = torch.broadcast_shapes(*{kv.positions.shape[1:-1] for kv in pieces})
    device = pieces[0].positions.device
    return torch.cat([expanded(kv.positions.to(device), shape) for kv in pieces], dim=-1)


def expanded(
    positions: Int[Tensor, "axes *any tokens"], shape: Sequence[int]
) -> Int[Tensor, "axes *shape tokens"]:
    """Positions spelt out for a batch, layers and heads."""
    axes, *own, tokens = positions.shape
    missing = [1] * (len(shape) - len(own))
    return positions.reshape(axes, *missing, *own, tokens).expand(-1, *shape, -1)


def joined_counts(pieces: Sequence[Writable]) -> Float[Tensor, "*batch tokens"] | None:
    """Counts of all tokens; one for each token of a piece that has none, if another has some."""
    if all(kv.counts is None for kv in pieces):
        return None
    device = pieces[0].positions.device
    each = [torch.ones(kv.num_tokens) if kv.counts is None else kv.counts for kv in pieces]
    batch = torch.broadcast_shapes(*{counts.shape[:-1] for counts in each})
    return torch.cat([counts.to(device).expand(*batch, -1) for counts in each], dim=-1)


def rotated_alike(pieces: Sequence[Writable]) -> bool:
    """Whether the keys are rotated. Raises X2LError if only some are: each would be rotated as the first."""
    if len({kv.rotated for kv in pieces}) > 1:
        raise X2LError("keys: expected all before rotation, got some that are rotated already")
    return pieces[0].rotated


class Memory:
    """Everything before a chunk, ready to be attended to.

    `Backbone.extend` makes one and `Backbone.prefill` reads it: nobody else looks inside, so that it may be
    rotated keys, pieces of them, or whatever else a backbone keeps.
    """


@runtime_checkable
class Level(Protocol):
    """One stored compression of a chunk: a KV, or anything that can become one (packed, on disk).

    One that lies on a device has `to(device)`, as a KV has; it is moved before it is materialised there. On
    disk, but for x2l.quantised.PackedKV, it is what it materialises as.
    """

    @property
    def num_tokens(self) -> int: ...

    @property
    def num_bytes(self) -> int: ...

    def materialise(self) -> KV: ...


@runtime_checkable
class Writable(Level, Protocol):
    """A level that can be put into its place in a cache without a KV in between: a KV or a packed one."""

    positions: Int[Tensor, "axes *#batch #layers #kv_heads tokens"]
    rotated: bool
    counts: Float[Tensor, "*#batch tokens"] | None

    def write(
        self,
        keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
        values: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
    ) -> None: ...


def moved(level: Level, device: torch.device | str) -> Level:
    """A packed level on a device: few bytes move. A KV stays where it is: it moves tensor by tensor."""
    return level.to(device) if hasattr(level, "to") and not isinstance(level, KV) else level


def writable(level: Level, device: torch.device | str) -> Writable:
    """A level as it is put into a cache on a device: a packed one moves there and may be unpacked."""
    level = moved(level, device)
    # Not isinstance: that looks a protocol up anew, for each of hundreds of chunks.
    return level if hasattr(level, "write") else level.materialise()


@dataclass(frozen=True)
class ChunkKV:
    """A compressed chunk: one level per requested ratio, and what oracles stored about it.

    num_visual_tokens: of the uncompressed chunk, text between frames included. next_position: as in Chunk.
    """

    index: int
    start_s: float
    end_s: float
    num_frames: int
    num_visual_tokens: int
    levels: Mapping[int, Level]
    features: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    next_position: int | None = None


@dataclass(frozen=True)
class Geometry:
    """Sizes that a KV must have to fit a backbone.

    tokens_per_frame: None where it depends on the size of the frames.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    tokens_per_frame: int | None
    dtype: str

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one cached token over all layers: keys and values."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * getattr(torch, self.dtype).itemsize


@dataclass(frozen=True)
class IndexSpec:
    """Record of what made an index; asking checks it against the backbone.

    `backbone` is the identity of the weights, `recipe` the compressor and chunking as nested
    {name, ...} dicts, `video` a fingerprint of the source (file name, bytes, sampling).
    """

    backbone: str
    geometry: Geometry
    recipe: Mapping[str, Any]
    video: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class VideoIndex:
    """Everything known about a video before the question: the prefix KV and the chunks, frozen."""

    prefix: KV
    chunks: tuple[ChunkKV, ...]
    spec: IndexSpec

    @property
    def ratios(self) -> tuple[int, ...]:
        """Requested ratios, low to high."""
        return tuple(sorted(self.chunks[0].levels))

    @property
    def num_visual_tokens(self) -> int:
        """Visual tokens of the video before compression."""
        return sum(chunk.num_visual_tokens for chunk in self.chunks)

    def planned_tokens(self, plan: Plan) -> tuple[int, ...]:
        """Tokens of each chunk that a plan puts into the cache."""
        return tuple(
            chunk.levels[ratio].num_tokens if ratio != DROPPED else 0
            for chunk, ratio in zip(self.chunks, plan.ratios, strict=True)
        )

    @property
    def num_bytes(self) -> int:
        """Bytes stored: the prefix and every level of every chunk."""
        stored = {id(level): level.num_bytes for chunk in self.chunks for level in chunk.levels.values()}
        return self.prefix.num_bytes + sum(stored.values())


@dataclass(frozen=True)
class Question:
    """A question and, where known, its gold answer, time spans (seconds) and task group.

    answer: an option, its letter or both where there are options.
    tries_at: what tries at one question share, such as orders of its options; "": there is one.
    labels: what else it counts under, such as the skills that it takes; tables sum up each.
    prompt: how it is put to the model.
    """

    text: str
    id: str = ""
    options: tuple[str, ...] = ()
    answer: str | None = None
    gold_spans_s: tuple[tuple[float, float], ...] | None = None
    group: str = ""
    history: tuple[tuple[str, str], ...] = ()
    tries_at: str = ""
    labels: tuple[str, ...] = ()
    prompt: Prompt = PLAIN

    def __post_init__(self):
        if len(self.options) > MAX_OPTIONS:
            raise X2LError(f"question: {len(self.options)} options, expected at most {MAX_OPTIONS}, A to Z")

    @property
    def letters(self) -> list[str]:
        """A, B, ...: what the options are called."""
        return [chr(ord("A") + i) for i in range(len(self.options))]

    @property
    def lettered_options(self) -> list[str]:
        """The options as they are shown and answered: "(A) red"."""
        return [f"({letter}) {option}" for letter, option in zip(self.letters, self.options, strict=True)]


@dataclass(frozen=True)
class Plan:
    """One requested ratio per chunk (DROPPED = left out) and the scores that led to it."""

    ratios: tuple[int, ...]
    scores: tuple[float, ...] | None = None

    def with_scores(self, scores: Float[Tensor, " chunks"] | None) -> Plan:
        return self if scores is None else replace(self, scores=tuple(scores.tolist()))


@dataclass(frozen=True)
class Span:
    """A chunk that was re-loaded in detail, as evidence for the answer."""

    chunk: int
    start_s: float
    end_s: float
    score: float | None


TTFT = ("score", "assemble", "first_token")
"""Seconds from the question to the first token of its answer."""


@dataclass(frozen=True)
class Answer:
    """The text, how it was reached and what it cost.

    kv_tokens and kv_bytes count the visual part of the cache (without prefix and question);
    kv_tokens_full and kv_bytes_full the same for the uncompressed video. seed: of an answer that was sampled.
    """

    text: str
    plan: Plan
    evidence: tuple[Span, ...]
    kv_tokens_per_chunk: tuple[int, ...]
    kv_bytes: int
    kv_tokens_full: int
    kv_bytes_full: int
    seconds: Mapping[str, float]
    option_scores: tuple[float, ...] | None = None
    seed: int | None = None

    @property
    def kv_tokens(self) -> int:
        return sum(self.kv_tokens_per_chunk)

    @property
    def first_token_s(self) -> float:
        """From the question to the first token of the answer, with the index at hand."""
        return sum(self.seconds.get(name, 0.0) for name in TTFT)

    @property
    def cache_reduction(self) -> float:
        """Share of the uncompressed visual KV tokens that is not in the cache, 0..1."""
        return 1 - self.kv_tokens / self.kv_tokens_full
