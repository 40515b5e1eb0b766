"""Compressors that are a function of a chunk's finished KV; the pre-fill, edges and text are done here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Backbone, Compressor, chunk_kv
from x2l.types import KV, Chunk, ChunkKV, Memory, Observed, ObservedKV, X2LError, equal_counts, joined


@dataclass
class ChunkCompressor(Compressor):
    """Pre-fills chunks plainly; every level is a function of the chunk's full KV, `compress`.

    Text between the frames of a chunk is kept as it is: each run of visual tokens is compressed by itself.

    memory: what later chunks see of a chunk, its full KV or, in a pass of its own for each ratio, the
        compressed one.
    edge_ratio: ratio of the first and the last chunk in every level; None treats them like the others.
    """

    memory: Literal["full", "compressed"] = field(default="full", kw_only=True)
    edge_ratio: int | None = field(default=None, kw_only=True)

    observes: ClassVar[frozenset[str]] = frozenset()
    """Asked of the pre-fill besides KVs: "queries", "hidden", "attention" (see x2l.types.ObservedKV)."""

    def __post_init__(self):
        check_edge_ratio(self.edge_ratio)

    @abstractmethod
    def compress(self, kv: KV, ratio: int) -> KV:
        """About `kv.num_tokens / ratio` tokens that stand for `kv`, ratio > 1. Keys are un-rotated.

        kv: an ObservedKV where the method `observes` anything.
        """

    def encode(
        self, backbone: Backbone, prefix: KV, chunks: Iterable[Chunk], ratios: Sequence[int]
    ) -> Iterator[ChunkKV]:
        passes = [tuple(ratios)] if self.memory == "full" else [(ratio,) for ratio in ratios]
        memories = [backbone.extend(None, prefix)] * len(passes)
        for chunk, is_edge in with_edges(chunks):
            levels, full, made = {}, {}, {}
            for i, of_pass in enumerate(passes):
                memory = memories[i]
                # Passes are equal until their memories differ: the first chunk is computed once.
                if id(memory) not in full:
                    full[id(memory)] = self._prefilled(backbone, chunk, memory)
                kv, observed = full[id(memory)]
                for ratio in of_pass:
                    key = id(memory), self.edge_ratio if is_edge and self.edge_ratio else ratio
                    if key not in made:
                        made[key] = self._level(kv, observed, chunk, key[1])
                    levels[ratio] = made[key]
                seen = kv if self.memory == "full" else levels[of_pass[0]]
                memories[i] = backbone.extend(memory, seen)
            yield chunk_kv(chunk, levels)

    def _prefilled(self, backbone: Backbone, chunk: Chunk, memory: Memory) -> tuple[KV, Observed | None]:
        if not self.observes:
            return backbone.prefill(chunk, memory), None
        return backbone.prefill_observed(chunk, memory, self.observes)

    def _level(self, kv: KV, observed: Observed | None, chunk: Chunk, ratio: int) -> KV:
        if ratio == 1:
            return kv
        if observed is not None:
            kv = ObservedKV(kv.keys, kv.values, kv.positions, kv.rotated, kv.counts, observed)
        if chunk.is_text is None:
            level = self._compressed(kv, ratio)
        else:
            runs = runs_of(kv, chunk.is_text.tolist())
            level = joined(run if is_text else self._compressed(run, ratio) for is_text, run in runs)
        # What was observed is not kept: it is larger than the KVs.
        return level.plain() if isinstance(level, ObservedKV) else level

    def _compressed(self, kv: KV, ratio: int) -> KV:
        """Tokens stand for equally many, where the method does not say for how many."""
        level = self.compress(kv, ratio)
        if level.counts is None and level.num_tokens != kv.num_tokens:
            level = replace(level, counts=equal_counts(level.num_tokens, kv.num_tokens))
        return level


@dataclass
class ScorerCompressor(ChunkCompressor):
    """Keeps the tokens with the highest scores; every layer and head keeps its own. Write `score` only.

    Counts: kept tokens share equally what all stood for, though none summarises what is thrown away. So a
    chunk is heard under proportional attention as if it were whole, whatever its level; if each stood for
    itself, a chunk would be heard less the more of it is thrown away. Nor can a token be given the share of
    those around it: layers and heads keep different ones, and have one count in common.
    """

    @abstractmethod
    def score(self, kv: KV) -> Float[Tensor, "*#batch #layers #kv_heads tokens"]:
        """Worth of each token; higher = keep. kv: as `compress` sees it."""

    def compress(self, kv: KV, ratio: int) -> KV:
        """The best `num_tokens // ratio` tokens (one at least), in temporal order."""
        best = self.score(kv).topk(max(1, kv.num_tokens // ratio), dim=-1).indices
        return kv.take(best.sort(dim=-1).values)


def runs_of(kv: KV, is_text: Sequence[bool]) -> Iterator[tuple[bool, KV]]:
    """Consecutive tokens of one kind: whether they are text, and their KV."""
    start = 0
    for kind, group in groupby(is_text):
        stop = start + len(list(group))
        yield kind, kv.part(slice(start, stop))
        start = stop


def with_edges(chunks: Iterable[Chunk], has_begun: bool = False) -> Iterator[tuple[Chunk, bool]]:
    """Each chunk with whether it is the first or the last, looking one chunk ahead.

    has_begun: others came before, none of these is the first.
    """
    chunks = iter(chunks)
    current, is_first = next(chunks, None), not has_begun
    while current is not None:
        following = next(chunks, None)
        yield current, is_first or following is None
        current, is_first = following, False


def check_edge_ratio(ratio: int | None) -> None:
    """Raise X2LError unless it is a positive integer or None."""
    if ratio is not None and ratio < 1:
        raise X2LError(f"compressor.edge_ratio: expected a positive integer or null, got {ratio}")
