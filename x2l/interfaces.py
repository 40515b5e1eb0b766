"""The four slots. Each is an abstract dataclass: its fields are its configuration.

    Backbone    prompt and vision in, text out
    Compressor  chunks in, several levels of KVs out
    Oracle      how relevant is each chunk to this question?
    Selector    scores in, one ratio per chunk out

To add a method, subclass one of these in a file of its own; see `x2l.registry` for how it gets a name.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from transformers import DynamicCache

from x2l.registry import describe
from x2l.types import KV, Chunk, ChunkKV, Geometry, Plan, Question, VideoIndex, X2LError


class Backbone(ABC):
    """A video language model, cut where KV compression needs it to be cut.

    A memory is a KV whose keys are ready to be attended to. It is never mutated: `extend` returns a
    new one, so that training can re-compute any step.
    """

    provides: ClassVar[frozenset[str]] = frozenset()
    """Capabilities by name ("vst", "attention", ...), matched with a method's `requires`."""

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
        """Visual tokens of RGB frames, `tokens_per_frame` each, in temporal order.

        times_s: seconds since the start of the video, for backbones that tell their model.
        """

    @abstractmethod
    def begin(self) -> KV:
        """KV of the prompt in front of the video (the sink), keys as the backbone stores them."""

    @abstractmethod
    def extend(self, memory: KV | None, kv: KV) -> KV:
        """A new memory with `kv` behind `memory` (None = empty)."""

    @abstractmethod
    def prefill(self, visual_tokens: Float[Tensor, "*batch tokens hidden"], memory: KV) -> KV:
        """KV of every visual token of one chunk, seen causally behind `memory`."""

    @abstractmethod
    def rotate(
        self,
        keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
        positions: Int[Tensor, "axes #layers #kv_heads tokens"],
    ) -> Float[Tensor, "*batch layers kv_heads tokens head_dim"]:
        """Apply the rotary embedding of `positions` to keys; differences of positions re-rotate."""

    @abstractmethod
    def encode_text(self, text: str) -> Int[Tensor, " tokens"]:
        """Token ids of a piece of plain text, without any template."""

    @abstractmethod
    def embed_text(self, text: str) -> Float[Tensor, "tokens hidden"]:
        """Input embeddings of the language model for a piece of plain text."""

    @abstractmethod
    def encode_question(self, question: Question) -> Int[Tensor, " tokens"]:
        """Token ids of everything behind the video: the question in the model's own template."""

    def unknown_words(self, text: str) -> list[str]:
        """Words of `text` that the backbone's tokenizer cannot represent (none for byte-level ones)."""
        return []

    @abstractmethod
    def logits(self, ids: Int[Tensor, " tokens"], cache: DynamicCache) -> Float[Tensor, "tokens vocab"]:
        """fp32 logits of `ids` run as one causal block behind `cache`, which is extended by them."""

    @abstractmethod
    def generate(self, ids: Int[Tensor, " tokens"], cache: DynamicCache, **options: Any) -> str:
        """Decode behind `cache` and `ids`, greedily by default.

        `options` are those of transformers' generate() (max_new_tokens, do_sample, streamer, ...).
        """

    def prefill_vst(
        self,
        visual_tokens: Float[Tensor, "*batch tokens hidden"],
        memory: KV,
        after: Int[Tensor, " vsts"],
    ) -> KV:
        """KV of visual summary tokens: the i-th stands behind the first `after[i]` tokens of the chunk.

        Capability "vst".
        """
        raise NotImplementedError(f"{type(self).__name__} has no visual summary tokens")

    def attention(
        self, ids: Int[Tensor, " tokens"], cache: DynamicCache
    ) -> Float[Tensor, "layers heads cached"]:
        """How much the last of `ids` attends to every cached token, each layer and head (sums < 1).

        Capability "attention". `cache` is extended by `ids`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not report attention")


@dataclass
class Compressor(ABC):
    """Turns chunks into ChunkKVs with one level per requested ratio.

    Write `encode` for a method with a pre-fill of its own (VST), or only `compress`: then the chunks
    are pre-filled plainly and every level is a function of the chunk's full KV.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """Capabilities that the backbone must provide."""

    def encode(
        self, backbone: Backbone, prefix: KV, chunks: Iterable[Chunk], ratios: Sequence[int]
    ) -> Iterator[ChunkKV]:
        """Yield a ChunkKV per chunk, looking at most one chunk ahead. `prefix` = `backbone.begin()`."""
        memory = backbone.extend(None, prefix)
        for chunk in chunks:
            kv = backbone.prefill(chunk.visual_tokens, memory)
            memory = backbone.extend(memory, kv)
            yield chunk_kv(chunk, {ratio: self.compress(kv, ratio) for ratio in ratios})

    def compress(self, kv: KV, ratio: int) -> KV:
        """About `kv.num_tokens / ratio` tokens that stand for `kv`. Keys are un-rotated."""
        raise NotImplementedError(f"{type(self).__name__} must define encode() or compress()")


def chunk_kv(chunk: Chunk, levels: Mapping[int, KV]) -> ChunkKV:
    """The ChunkKV of `chunk` with the given levels."""
    return ChunkKV(
        index=chunk.index,
        start_s=float(chunk.times_s[0]),
        end_s=float(chunk.times_s[-1]),
        num_frames=chunk.num_frames,
        num_visual_tokens=chunk.visual_tokens.shape[-2],
        levels=levels,
    )


@dataclass
class Oracle(ABC):
    """Scores the chunks of an index for a question; higher = more relevant."""

    requires: ClassVar[frozenset[str]] = frozenset()
    not_prepared: ClassVar[frozenset[str]] = frozenset()
    """Fields that `prepare` does not depend on: an index can be asked with other values of them."""

    @property
    def key(self) -> str:
        """What `prepare` depends on, as canonical JSON: the oracle's features are stored under it."""
        decisive = {name: value for name, value in describe(self).items() if name not in self.not_prepared}
        return json.dumps(decisive | ({"weights": self.identity} if self.identity else {}), sort_keys=True)

    @property
    def identity(self) -> str:
        """Which weights of its own the oracle scores with; empty without any."""
        return ""

    def prepare(self, chunk: Chunk) -> dict[str, Tensor]:
        """Question-free features to store with the chunk at index time, by name (default: none)."""
        return {}

    def features(self, index: VideoIndex) -> list[Mapping[str, Tensor]]:
        """What `prepare` stored with each chunk. Raises X2LError if a chunk of the index lacks it."""
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


@dataclass
class Selector(ABC):
    """Turns scores into a Plan; how many chunks, or which budget, is the selector's own field."""

    uses_scores: ClassVar[bool] = True
    """False: the plan depends on the index only, and no oracle is asked."""

    @abstractmethod
    def choose(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Plan:
        """One requested ratio per chunk. Without scores (None), a default that needs none."""
