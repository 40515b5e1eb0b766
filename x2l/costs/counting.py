"""A pre-fill on paper: the real compressor on tensors that hold nothing, and what it adds up to.

Sizes of KVs come out of the method itself, so that any compressor can be planned with, also one of your own.
Equal chunks are counted once: what a long video adds up to is continued from shorter ones, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import comb, gcd, lcm
from typing import Any

from x2l.costs.paper import PaperBackbone
from x2l.costs.sizes import BackboneSizes
from x2l.interfaces import Compressor
from x2l.types import Chunk, ChunkKV, X2LError

_EDGE = 2
"""Chunks at each end of a video that may differ from those between them."""
_POINTS = 4
"""Shorter videos that a long one is continued from: what they add up to grows linearly or quadratically."""


@dataclass(frozen=True)
class Counts:
    """What a video adds up to: its compressed chunks, tokens, bytes, FLOPs.

    activations: numbers that a layer holds at one time. The rest is explained by `x2l.costs.dry_run.Sheet`.
    """

    chunks: tuple[ChunkKV, ...]
    visual_tokens: int
    level_tokens: dict[int, int]
    stored_bytes: int
    memory_tokens: int
    activations: int
    prefill_flops: int
    plain_flops: int


@dataclass(frozen=True)
class PaperRun:
    """A model, a method and how a video is cut; a length is all that is missing."""

    sizes: BackboneSizes
    compressor: Compressor
    ratios: tuple[int, ...]
    chunk_frames: int
    dtype: str

    def count(self, num_frames: int) -> Counts:
        """Raises X2LError if the compressor looks at values, which there are none of."""
        num_chunks, period, least = -(-num_frames // self.chunk_frames), self._period(), self._least()
        first = least + (num_chunks - least) % period
        if num_chunks <= first + _POINTS * period:
            return self._counted(num_frames)
        fewer = [num_chunks - first - point * period for point in range(_POINTS)]
        shorter = [self._counted(num_frames - chunks * self.chunk_frames) for chunks in fewer]
        return _continued(shorter, period, num_chunks) or self._counted(num_frames)

    @property
    def _steps(self) -> int:
        """Steps in time of a chunk."""
        return -(-self.chunk_frames // self.sizes.frames_per_step)

    def _period(self) -> int:
        """Chunks after which summary tokens, which count on from chunk to chunk, and blocks start anew."""
        tokens = self._steps * (self.sizes.text_per_step + self.sizes.tokens_per_step)
        group = lcm(*self.ratios) if "vst" in self.compressor.requires else 1
        block = self.sizes.block_steps or 1
        return lcm(group // gcd(group, tokens), block // gcd(block, self._steps))

    def _least(self) -> int:
        """Chunks of a video that has a middle, where tokens see no more than any later one does."""
        seen = (self.sizes.previous_blocks + 1) * (self.sizes.block_steps or 0)
        return 2 * _EDGE + -(-seen // self._steps)

    def _counted(self, num_frames: int) -> Counts:
        backbone = PaperBackbone(self.sizes, self.dtype)
        chunks = self._encoded(backbone, num_frames)
        index = backbone.index(chunks)
        return Counts(
            chunks=chunks,
            visual_tokens=index.num_visual_tokens,
            level_tokens={r: sum(chunk.levels[r].num_tokens for chunk in chunks) for r in index.ratios},
            stored_bytes=index.num_bytes,
            memory_tokens=backbone.peak_memory,
            activations=_activations(backbone),
            prefill_flops=backbone.flops,
            plain_flops=self._plain_flops(num_frames),
        )

    def _encoded(self, backbone: PaperBackbone, num_frames: int) -> tuple[ChunkKV, ...]:
        try:
            drawn = self._chunks(backbone, num_frames)
            return tuple(self.compressor.encode(backbone, backbone.begin(), drawn, self.ratios))
        except (NotImplementedError, RuntimeError) as error:
            if isinstance(error, X2LError):
                raise
            name = type(self.compressor).__name__
            raise X2LError(f"compressor {name}: looks at values, which there are none of on paper") from error

    def _chunks(self, backbone: PaperBackbone, num_frames: int) -> Iterator[Chunk]:
        for index, first in enumerate(range(0, num_frames, self.chunk_frames)):
            yield backbone.chunk(index, first, min(self.chunk_frames, num_frames - first))

    def _plain_flops(self, num_frames: int) -> int:
        """FLOPs of one pass over everything, chunk by chunk, in which every token sees all before it."""
        backbone = PaperBackbone(replace(self.sizes, block_steps=None), self.dtype)
        memory = backbone.extend(None, backbone.begin())
        for chunk in self._chunks(backbone, num_frames):
            memory = backbone.extend(memory, backbone.prefill(chunk, memory))
        return backbone.flops


def _activations(backbone: PaperBackbone) -> int:
    """Numbers that a layer holds at one time while a chunk is pre-filled."""
    decoder = backbone.sizes.decoder
    return backbone.peak_rows * (4 * decoder.hidden + 3 * decoder.intermediate)


def _continued(shorter: Sequence[Counts], period: int, num_chunks: int) -> Counts | None:
    """Counts of more chunks, from those of videos that are a period apart; None if they do not tell."""
    last = shorter[-1].chunks
    middle, more = last[_EDGE:], (num_chunks - len(last)) // period
    kept = [[level.num_tokens for level in chunk.levels.values()] for chunk in middle[:-_EDGE]]
    if kept[period:] != kept[:-period]:
        return None
    chunks = (*last[:_EDGE], *middle[:period] * more, *middle)
    names, steps = [field.name for field in fields(Counts)[1:]], more + _POINTS - 1
    further = {name: _further([getattr(counts, name) for counts in shorter], steps) for name in names}
    return None if None in further.values() else Counts(chunks, **further)


def _further(values: Sequence[Any], steps: int) -> Any:
    """The number `steps` steps behind the first of some, or each of several; None if they do not tell."""
    if isinstance(values[0], dict):
        each = {key: _further([value[key] for value in values], steps) for key in values[0]}
        return None if None in each.values() else each
    differences = [values]
    while len(differences) < len(values):
        differences.append([after - before for before, after in pairwise(differences[-1])])
    if any(differences[-1]):
        return None
    return sum(comb(steps, degree) * row[0] for degree, row in enumerate(differences))
