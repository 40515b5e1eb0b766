"""VST: the backbone's own visual summary tokens, one pre-fill pass for each ratio or for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from x2l.compressors.cluster import clustered
from x2l.compressors.mean_pool import pooled
from x2l.engine.chunkwise import check_edge_ratio, with_edges
from x2l.interfaces import Backbone, Compressor, chunk_kv
from x2l.types import KV, Chunk, ChunkKV, Memory, X2LError

OF_FINEST = {"pooled": lambda kv, sizes: [pooled(kv, size) for size in sizes], "clustered": clustered}
"""How coarser levels are made of the finest one, by the name of `passes`."""


@dataclass
class VST(Compressor):
    """Learned visual summary tokens.

    passes: how the levels are made.
        "own": one pre-fill pass for each ratio, which attends to its own KVs only (H-KVs are conditioned on
        H-KVs), as in the paper.
        "joint": one pass with the VSTs of all ratios in one interleaved sequence; where several stand behind
        the same raw token, the finest comes first. A VST sees all that stands in front of it.
        "pooled": a pass of the finest ratio; a coarser token is the mean of neighbouring finest ones of its
        chunk, keys before rotation.
        "clustered": likewise, but of those finest ones whose keys are alike; it stands where the last of them
        does (see Cluster).
        All but "own" need ratios of which each divides the next.
    memory: what later chunks see in a joint pass: VSTs of the lowest ratio, or only those of the highest.
    edge_ratio: ratio of the first and the last chunk in every level; None treats them like the others.
    carry: raw tokens behind a chunk's last VST count towards the first VST of the next chunk. "release"
        is the released code's rule and raises where that is undefined (carry >= ratio, or a chunk
        without a VST); "reset" takes the carry modulo the ratio and gives every chunk at least one VST.

    Source: Video-X^2L (arXiv 2506.21184), section 3.3; VSTs: Video-XL (arXiv 2409.14485), section 3.2.
    Differs: the first/last rule is in the released code, not in the paper; "joint", "pooled" and
        "clustered" are ours.
    """

    edge_ratio: int | None = 2
    carry: Literal["release", "reset"] = "reset"
    passes: Literal["own", "joint", "pooled", "clustered"] = "own"
    memory: Literal["low", "high"] = "low"

    requires = frozenset({"vst"})

    def __post_init__(self):
        check_edge_ratio(self.edge_ratio)
        if self.memory == "high" and self.passes != "joint":
            raise X2LError(f"compressor.memory: expected low with passes {self.passes}, got high")

    def encode(
        self, backbone: Backbone, prefix: KV, chunks: Iterable[Chunk], ratios: Sequence[int]
    ) -> Iterator[ChunkKV]:
        return self.resume(backbone, prefix, (), chunks, ratios)

    def resume(
        self,
        backbone: Backbone,
        prefix: KV,
        before: Sequence[ChunkKV],
        chunks: Iterable[Chunk],
        ratios: Sequence[int],
    ) -> Iterator[ChunkKV]:
        if self.passes != "own":
            _require_divisible(ratios)
        start = _Lane(memory=backbone.extend(None, prefix))
        encode = {"own": self._own, "joint": self._joint}.get(self.passes, self._of_finest)
        known = ((chunk, chunk.index == 0) for chunk in before)
        edges = chain(known, with_edges(chunks, has_begun=bool(before)))
        for chunk, levels in encode(backbone, start, edges, sorted(ratios)):
            if isinstance(chunk, Chunk):
                yield chunk_kv(chunk, {ratio: levels[ratio] for ratio in ratios})

    def _own(self, backbone: Backbone, start: _Lane, chunks: Edges, ratios: Sequence[int]) -> Encoded:
        lanes = dict.fromkeys(ratios, start)
        for chunk, is_edge in chunks:
            levels, steps = {}, {}
            for ratio in ratios:
                # Lanes are equal until their ratios first differ: the first chunk is computed once.
                step = (id(lanes[ratio]), self._actual(ratio, is_edge))
                if step not in steps:
                    steps[step] = self._encode_chunk(backbone, chunk, lanes[ratio], step[1])
                lanes[ratio], levels[ratio] = steps[step]
            yield chunk, levels

    def _of_finest(self, backbone: Backbone, start: _Lane, chunks: Edges, ratios: Sequence[int]) -> Encoded:
        lane, finest, join = start, ratios[0], OF_FINEST[self.passes]
        for chunk, is_edge in chunks:
            lane, kv = self._encode_chunk(backbone, chunk, lane, self._actual(finest, is_edge))
            is_done = isinstance(chunk, ChunkKV)  # encoded before: only the memory has to know it
            coarser = [] if is_done or (is_edge and self.edge_ratio) else ratios[1:]
            joined = join(kv, [ratio // finest for ratio in coarser])
            yield chunk, dict.fromkeys(ratios, kv) | dict(zip(coarser, joined, strict=True))

    def _joint(self, backbone: Backbone, start: _Lane, chunks: Edges, ratios: Sequence[int]) -> Encoded:
        memory, carries = start.memory, dict.fromkeys(ratios, 0)
        for chunk, is_edge in chunks:
            # At an edge all kinds are one: a chunk has as many kinds as its ratios differ.
            actual = {ratio: self._actual(ratio, is_edge) for ratio in ratios}
            kinds = {kind: carries[ratio] for ratio, kind in reversed(actual.items())}
            kvs, left = self._encode_kinds(backbone, chunk, memory, dict(sorted(kinds.items())))
            carries = {ratio: left[kind] for ratio, kind in actual.items()}
            seen = ratios[-1] if self.memory == "high" else ratios[0]
            memory = backbone.extend(memory, kvs[actual[seen]])
            yield chunk, {ratio: kvs[kind] for ratio, kind in actual.items()}

    def _actual(self, ratio: int, is_edge: bool) -> int:
        return self.edge_ratio if is_edge and self.edge_ratio else ratio

    def _encode_chunk(
        self, backbone: Backbone, chunk: Chunk | ChunkKV, lane: _Lane, ratio: int
    ) -> tuple[_Lane, KV]:
        kvs, left = self._encode_kinds(backbone, chunk, lane.memory, {ratio: lane.carry})
        return _Lane(backbone.extend(lane.memory, kvs[ratio]), left[ratio]), kvs[ratio]

    def _encode_kinds(
        self, backbone: Backbone, chunk: Chunk | ChunkKV, memory: Memory, carries: Mapping[int, int]
    ) -> tuple[dict[int, KV], dict[int, int]]:
        """VSTs of one or several ratios in one pre-fill of a chunk, and the raw tokens that none of each saw.

        carries: of each ratio, low to high. Of a chunk that was encoded before, the VSTs are known.
        """
        tokens = chunk.num_visual_tokens if isinstance(chunk, ChunkKV) else chunk.visual_tokens.shape[-2]
        placed = {ratio: place_vsts(tokens, ratio, carry, self.carry) for ratio, carry in carries.items()}
        if isinstance(chunk, ChunkKV):
            kvs = {ratio: _known(chunk, ratio).to(backbone.device) for ratio in placed}
            return kvs, {ratio: left for ratio, (_, left) in placed.items()}
        after = torch.cat([positions for positions, _ in placed.values()])
        order = after.argsort(stable=True)
        kv = backbone.prefill_vst(chunk, memory, after[order])
        kinds = torch.cat([torch.full_like(positions, ratio) for ratio, (positions, _) in placed.items()])
        kvs = {}
        for ratio, (positions, _) in placed.items():
            waiting = torch.tensor([-(carries[ratio] % ratio)])  # raw tokens in front of the chunk
            own = kv if len(placed) == 1 else kv.select((kinds[order] == ratio).nonzero()[:, 0])
            kvs[ratio] = replace(own, counts=positions.diff(prepend=waiting).float())
        return kvs, {ratio: left for ratio, (_, left) in placed.items()}


def _known(chunk: ChunkKV, ratio: int) -> KV:
    """The level of an actual ratio; at an edge, where there is one for all, that."""
    return chunk.levels.get(ratio, next(iter(chunk.levels.values()))).materialise()


Edges = Iterable[tuple[Chunk | ChunkKV, bool]]
"""Chunks, encoded before or to encode, and whether each is the first or the last."""
Encoded = Iterator[tuple[Chunk | ChunkKV, dict[int, KV]]]
"""Chunks with their levels."""


def _require_divisible(ratios: Sequence[int]) -> None:
    for low, high in pairwise(sorted(ratios)):
        if high % low:
            raise X2LError(
                f"ratios: expected each to divide the next with compressor.passes joint, pooled or "
                f"clustered, got {low} and {high}"
            )


@dataclass(frozen=True, eq=False)
class _Lane:
    """One pass on its way through the video: its own memory, and raw tokens that no VST has seen."""

    memory: Memory
    carry: int = 0


def place_vsts(
    num_tokens: int, ratio: int, carry: int, rule: Literal["release", "reset"]
) -> tuple[Int[Tensor, " vsts"], int]:
    """After how many raw tokens of a chunk each VST stands, and the carry for the next chunk.

    A VST closes every `ratio` raw tokens, counting on from `carry` of the previous chunk:
    num_vsts = (num_tokens + carry) // ratio. Raises X2LError where rule "release" is undefined.
    """
    if rule == "reset":
        carry %= ratio
    elif carry >= ratio or num_tokens + carry < ratio:
        raise X2LError(
            f"compressor.carry: 'release' is undefined for {num_tokens} tokens at ratio {ratio} with carry "
            f"{carry}; expected chunks that hold a VST and a carry below the ratio (or carry: reset)"
        )
    after = ratio * torch.arange(1, (num_tokens + carry) // ratio + 1) - carry
    if len(after) == 0:
        return torch.tensor([num_tokens]), 0
    return after, (num_tokens + carry) % ratio
