"""The slots. Each is abstract. Fields are configuration; of a backbone, those of `from_pretrained`.

    Backbone    prompt and vision in, text out
    Compressor  chunks in, several levels of KVs out
    Oracle      how relevant is each chunk to this question?
    Selector    scores in, one ratio per chunk out
    Chunker     a video in, frames of each chunk out
    Data        videos and what is asked about them, to measure and to train the four

To add a method, subclass one of these in a file of its own; see `x2l.registry` for how it gets a name.
"""

from __future__ import annotations

import copy
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.generation.streamers import BaseStreamer

from x2l.items import Item
from x2l.proportional import OFF, Proportional
from x2l.registry import describe, name_of, slot
from x2l.scoring import is_right
from x2l.types import (
    KV,
    Chunk,
    ChunkKV,
    Clip,
    Geometry,
    Memory,
    Observed,
    Plan,
    Question,
    VideoFacts,
    VideoIndex,
    X2LError,
)
from x2l.video import Footage
from x2l.weights import collected, fingerprint, load


@slot("backbone", maker="from_pretrained")
class Backbone(ABC):
    """A video language model, cut where KV compression needs it to be cut.

    A memory is never mutated: `extend` returns a new one, so that training can re-compute any step.
    """

    provides: ClassVar[frozenset[str]] = frozenset()
    """Capabilities by name ("vst", "attention", ...), matched with a method's `requires`."""
    sizes: ClassVar[Any] = None
    """x2l.costs.sizes.BackboneSizes of the published model that it is named after, for `x2l estimate`."""
    base_count: ClassVar[float] = 1.0
    """Raw tokens that a token of the densest level stands for on which the model was trained."""
    proportional: Proportional = OFF
    """How tokens of a cache are weighed that stand for many; a pipeline sets it (`weighing`)."""
    num_positions: int | None = None
    """Most tokens that the model was made to read; None: it does not say."""
    num_read: int = 0
    """Tokens in the longest memory since one was begun."""
    _is_told: bool = False
    built_from: Mapping[str, Any] | None = None
    """The {name, **fields} that `registry.build` made it from."""

    @classmethod
    def from_pretrained(cls, **fields: Any) -> Backbone:
        """With its weights. To be built by name, a subclass overrides this; the parameters are its fields."""
        raise X2LError(f"backbone {cls.__name__}: has no from_pretrained, cannot be built by name")

    def weighing(self, proportional: Proportional) -> Backbone:
        """The same backbone, the weights too, that reads caches with this weighing.

        Raises X2LError if it cannot.
        """
        if proportional == self.proportional:
            return self
        if proportional.beta:
            self.require_weighing()
        again = copy.copy(self)
        again.proportional = proportional
        return again

    def require_weighing(self) -> None:
        """Raise X2LError if the attention of this backbone takes no bias."""
        raise X2LError(f"proportional: {type(self).__name__} cannot weigh cached tokens, expected beta 0")

    def warn_if_too_long(self, num_tokens: int) -> None:
        """Warn, once, of more tokens than the model has positions."""
        limit = self.num_positions
        if limit is None or num_tokens <= limit or self._is_told:
            return
        self._is_told = True
        warnings.warn(
            f"{num_tokens:,} tokens are read, the model has {limit:,} positions: what lies beyond may be "
            "wrong (fewer frames, higher ratios or a shorter question are less to read)",
            stacklevel=2,
        )

    @property
    @abstractmethod
    def identity(self) -> str:
        """Name and fingerprint of the weights: equal iff the KVs would be equal."""

    @property
    @abstractmethod
    def geometry(self) -> Geometry: ...

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @abstractmethod
    def embed(
        self, frames: UInt8[Any, "frames height width 3"], times_s: Float[Any, " frames"]
    ) -> Float[Tensor, "tokens hidden"]:
        """Visual tokens of RGB frames, equally many for each step in time, in temporal order.

        times_s: seconds since the start of the video, for backbones that tell their model.
        """

    def read(self, index: int, clip: Clip, position: int) -> Chunk:
        """Everything that the language model reads for chunk `index` of a video, from `position` on.

        A backbone whose model reads more than visual tokens (time stamps between frames, positions in space)
        overrides this and tells where the next chunk starts, `next_position`; the default is `embed`, one
        position for each token.
        """
        tokens = self.embed(clip.frames, clip.times_s)
        end = position + tokens.shape[-2]
        positions = torch.arange(position, end, device=tokens.device)[None]
        return Chunk(index, clip.times_s, tokens, clip.frames, positions=positions, next_position=end)

    @abstractmethod
    def begin(self, video: VideoFacts | None = None) -> KV:
        """KV of the prompt in front of the video (the sink), keys as the backbone stores them.

        video: for models whose prompt tells them about it.
        """

    @abstractmethod
    def extend(self, memory: Memory | None, kv: KV) -> Memory:
        """A new memory with `kv` behind `memory` (None = empty)."""

    @abstractmethod
    def prefill(self, chunk: Chunk, memory: Memory) -> KV:
        """KV of every token of one chunk, seen causally behind `memory`."""

    def prefill_observed(self, chunk: Chunk, memory: Memory, what: Collection[str]) -> tuple[KV, Observed]:
        """Pre-fills a chunk and hands over what was observed meanwhile: "queries", "hidden", "attention".

        Capabilities "observe_queries", "observe_hidden", "observe_attention".
        """
        raise NotImplementedError(f"{type(self).__name__} shows nothing of its pre-fill")

    def finish(self, cache: DynamicCache) -> DynamicCache:
        """An assembled cache, extended by what the model always reads behind a video; by default nothing."""
        return cache

    @abstractmethod
    def rotate(
        self,
        keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
        positions: Int[Tensor, "axes *#batch #layers #kv_heads tokens"],
    ) -> Float[Tensor, "*batch layers kv_heads tokens head_dim"]:
        """Apply the rotary embedding of `positions` to keys; differences of positions re-rotate."""

    def rotate_(
        self,
        keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
        positions: Int[Tensor, "axes *#batch #layers #kv_heads tokens"],
    ) -> Float[Tensor, "*batch layers kv_heads tokens head_dim"]:
        """As `rotate`, in place; overridden by one that needs no second copy of the keys for it."""
        return keys.copy_(self.rotate(keys, positions))

    @abstractmethod
    def encode_text(self, text: str) -> Int[Tensor, " tokens"]:
        """Token ids of a piece of plain text, without any template."""

    @abstractmethod
    def embed_text(self, text: str) -> Float[Tensor, "tokens hidden"]:
        """Input embeddings of the language model for a piece of plain text."""

    @abstractmethod
    def encode_question(self, question: Question) -> Int[Tensor, " tokens"]:
        """Token ids of everything behind the video: the question in the model's own template."""

    def encode_answer(self, text: str) -> Int[Tensor, " tokens"]:
        """Token ids of an answer and of what ends it, as the model is taught to write it. For training."""
        raise NotImplementedError(f"{type(self).__name__} cannot be trained")

    def unknown_words(self, text: str) -> list[str]:
        """Words of `text` that the backbone's tokenizer cannot represent (none for byte-level ones)."""
        return []

    @property
    def vocabulary(self) -> str:
        """What it knows where there are unknown words: how many, and where they are listed."""
        return "the words of its tokenizer"

    @abstractmethod
    def logits(self, ids: Int[Tensor, " tokens"], cache: DynamicCache) -> Float[Tensor, "tokens vocab"]:
        """fp32 logits of `ids` run as one causal block behind `cache`, which is extended by them.

        `cache` here and below is one that `x2l.cache.assemble` filled (or an empty one).
        """

    @abstractmethod
    def generate(self, ids: Int[Tensor, " tokens"], cache: DynamicCache, **options: Any) -> str:
        """Decode behind `cache` and `ids`, greedily by default.

        `options` are those of transformers' generate() (max_new_tokens, do_sample, streamer, ...).
        """

    def streamer(self, on_text: Callable[[str], Any]) -> BaseStreamer | None:
        """For generate(): passes the text on as it is written. None: the backbone cannot."""
        return None

    def prefill_vst(self, chunk: Chunk, memory: Memory, after: Int[Tensor, " vsts"]) -> KV:
        """KV of visual summary tokens: the i-th stands behind the first `after[i]` tokens of the chunk.

        Capability "vst".
        """
        raise NotImplementedError(f"{type(self).__name__} has no visual summary tokens")

    def frame_features(self, frames: UInt8[Any, "frames height width 3"]) -> Float[Tensor, "frames dim"]:
        """One vector for each frame: where it changes, a scene ends.

        Capability "frame_features".
        """
        raise NotImplementedError(f"{type(self).__name__} does not tell frames apart")

    def attention(
        self, ids: Int[Tensor, " tokens"], cache: DynamicCache
    ) -> Float[Tensor, "layers heads cached"]:
        """Attention of the last of `ids` to every cached token, each layer and head (sums < 1).

        Capability "attention". `cache` is extended by `ids`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not report attention")


class Part:
    """A compressor, an oracle or a selector: each may have weights and a say in a question's cache."""

    weights_file: str | None = None
    """Where its weights were loaded from: what its spec gives as `weights`."""

    @property
    def identity(self) -> str:
        """Fingerprint of the part's own weights; empty without any."""
        return fingerprint(self.own_weights())

    def own_weights(self) -> nn.Module:
        """Weights that training may change: parameters, modules and parts among the attributes.

        They are made in `__post_init__`, where the pipeline finds them and moves them to the backbone's
        device; a network that is loaded later, or whose name starts with "_", is none of them.
        """
        if "_own_weights" not in vars(self):
            self._own_weights = collected(vars(self))
        return self._own_weights

    def load_weights(self, path: str, field: str = "weights") -> None:
        """Load what `x2l fit` wrote for this part. Raises X2LError naming `field` if it does not fit."""
        load(self.own_weights(), path, field)
        self.weights_file = str(Path(path).resolve())

    @property
    def refines(self) -> bool:
        """Whether `refine` changes anything: questions of one plan share a cache where no part does."""
        return type(self).refine is not Part.refine

    def refine(
        self, levels: Sequence[KV], plan: Plan, question: Question, index: VideoIndex, backbone: Backbone
    ) -> Sequence[KV]:
        """The KVs that a question is answered on, from those that the plan loads; by default the same.

        levels: one for each chunk that the plan keeps, in temporal order, before they are joined and rotated.
        As many come back, on whatever device; `KV.take` keeps some tokens of one, for each head its own.
        """
        return levels


@slot("compressor")
@dataclass
class Compressor(Part, ABC):
    """Turns chunks into ChunkKVs with one level per requested ratio.

    A method that is a function of a chunk's finished KV subclasses `x2l.ChunkCompressor` instead.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """Capabilities that the backbone must provide."""

    @abstractmethod
    def encode(
        self, backbone: Backbone, prefix: KV, chunks: Iterable[Chunk], ratios: Sequence[int]
    ) -> Iterator[ChunkKV]:
        """Yield a ChunkKV per chunk, looking at most one chunk ahead. `prefix` = `backbone.begin()`."""

    def resume(
        self,
        backbone: Backbone,
        prefix: KV,
        before: Sequence[ChunkKV],
        chunks: Iterable[Chunk],
        ratios: Sequence[int],
    ) -> Iterator[ChunkKV]:
        """Go on behind chunks that were encoded before: as `encode` of all, without the pre-fill of those.

        Raises X2LError where later chunks see more of a chunk than its levels, as by default.
        """
        name = name_of(type(self))
        raise X2LError(
            f"compressor {name}: its index cannot be gone on with, later chunks see more than is held "
            "(expected vst, or a new folder)"
        )


def chunk_kv(chunk: Chunk, levels: Mapping[int, KV]) -> ChunkKV:
    """The ChunkKV of `chunk` with the given levels."""
    return ChunkKV(
        index=chunk.index,
        start_s=float(chunk.times_s[0]),
        end_s=float(chunk.times_s[-1]),
        num_frames=chunk.num_frames,
        num_visual_tokens=chunk.visual_tokens.shape[-2],
        levels=levels,
        next_position=chunk.next_position,
    )


@slot("oracle")
@dataclass
class Oracle(Part, ABC):
    """Scores the chunks of an index for a question; higher = more relevant."""

    requires: ClassVar[frozenset[str]] = frozenset()
    not_prepared: ClassVar[frozenset[str]] = frozenset()
    """Fields that `prepare` does not depend on: an index can be asked with other values of them."""

    @property
    def key(self) -> str:
        """Canonical JSON of all that `prepare` depends on: the oracle's features are stored under it."""
        inner = {name: _keys(value) for name, value in vars(self).items() if any(_oracles(value))}
        described = describe(self) | inner
        decisive = {name: value for name, value in described.items() if name not in self.not_prepared}
        identity = self.identity
        return json.dumps(decisive | ({"weights": identity} if identity else {}), sort_keys=True)

    def with_inner(self) -> list[Oracle]:
        """This oracle and those in its fields or in lists there: each stores what it prepares by itself."""
        return [self, *(deeper for inner in _oracles(vars(self)) for deeper in inner.with_inner())]

    def prepare(self, chunk: Chunk, backbone: Backbone) -> dict[str, Tensor]:
        """Question-free features to store with the chunk at index time, by name (default: none)."""
        return {}

    def beside(self, video: VideoFacts) -> str:
        """Fingerprint of what `prepare` looks at beside the frames, such as subtitles; "": nothing."""
        return ""

    def features(self, index: VideoIndex) -> list[Mapping[str, Tensor]]:
        """Features that `prepare` stored with each chunk. Raises X2LError if a chunk lacks them."""
        key = self.key
        if any(key not in chunk.features for chunk in index.chunks):
            stored = sorted({other for chunk in index.chunks for other in chunk.features})
            raise X2LError(
                f"oracle {key}: the index holds no features for it, expected one of {stored} "
                "(re-index, or add them with Pipeline.with_features)"
            )
        return [chunk.features[key] for chunk in index.chunks]

    @abstractmethod
    def score(
        self, question: Question, index: VideoIndex, backbone: Backbone
    ) -> Float[Tensor, " chunks"] | None:
        """One score per chunk, or None to abstain (then the selector decides without scores)."""


def scores_of(
    oracle: Oracle, question: Question, index: VideoIndex, backbone: Backbone
) -> Float[Tensor, " chunks"] | None:
    """The oracle's scores. Raises X2LError unless they are one number for each chunk."""
    scores = oracle.score(question, index, backbone)
    name, num_chunks = name_of(type(oracle)), len(index.chunks)
    if scores is not None and scores.shape != (num_chunks,):
        raise X2LError(f"oracle {name}: scores of shape {tuple(scores.shape)} for {num_chunks} chunks")
    if scores is not None and scores.isnan().any():
        chunk = int(scores.isnan().nonzero()[0])
        raise X2LError(f"oracle {name}: the score of chunk {chunk} is not a number")
    return scores


def _oracles(value: Any) -> Iterator[Oracle]:
    """The oracles that a field holds: one, or several in a list or a mapping."""
    if isinstance(value, Oracle):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(_oracles, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_oracles, value))


def _keys(value: Any) -> Any:
    """A field that holds oracles as plain data, each spelt as its key."""
    if isinstance(value, Oracle):
        return json.loads(value.key)
    if isinstance(value, Mapping):
        return {name: _keys(item) for name, item in value.items()}
    return [_keys(item) for item in value] if isinstance(value, list | tuple) else value


@slot("selector")
@dataclass
class Selector(Part, ABC):
    """Turns scores into a Plan; how many chunks, or which budget, is the selector's own field."""

    uses_scores: ClassVar[bool] = True
    """False: the plan depends on the index only, and no oracle is asked."""

    @abstractmethod
    def choose(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Plan:
        """One requested ratio per chunk. Without scores (None), a default that needs none."""


@slot("chunker")
@dataclass
class Chunker(ABC):
    """Says where a video is cut. In recipes it is the field `chunk_frames`."""

    requires: ClassVar[frozenset[str]] = frozenset()
    """Capabilities that the backbone must provide. Post-training cuts without a backbone: none then."""

    @abstractmethod
    def lengths(self, video: Footage, backbone: Backbone | None, progress: bool = False) -> list[int]:
        """Frames of each chunk, in temporal order; together those that are sampled, `video.num_frames`.

        backbone: None while training, for a chunker that requires nothing.
        """


@slot("data")
@dataclass
class Data(ABC):
    """Videos and what is asked about them; an evaluation and a training read the same.

    A subclass defines `items`, or `__len__` and `sample` where items are made one by one. One that writes
    its videos when an evaluation starts defines `open` instead, and cannot be trained on.
    Errors of wrong fields open with the field's name, in front of which the reader puts a path.
    """

    reduced: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Fields of a smaller variant, under "quick" (minutes) and "smoke" (seconds)."""

    def items(self) -> Sequence[Item]:
        """Every video with its questions; no video is opened to list them."""
        return [self.sample(number) for number in range(len(self))]

    def open(self, out: Path, progress: bool) -> Sequence[Item]:
        """The items of an evaluation whose results lie in the folder `out`."""
        return self.items()

    def __len__(self) -> int:
        return len(self._items)

    def sample(self, number: int) -> Item:
        """An item by its number; it depends on that and the fields only."""
        return self._items[number]

    def check_training(self) -> None:
        """Raise X2LError, opening with the field at fault, if this is not to be trained on."""
        if type(self).items is Data.items and type(self).sample is Data.sample:
            raise X2LError("name: writes its videos for an evaluation, expected data to train on")

    def kind(self, question: Question) -> str:
        """Kind of a question within its group; the share that can be guessed is counted by kind."""
        return question.group

    def is_right(self, said: str, question: Question) -> bool:
        """The metric: whether an answer counts. Accuracy is its mean over questions, and over groups."""
        return is_right(said, question)

    @cached_property
    def _items(self) -> Sequence[Item]:
        return self.items()
