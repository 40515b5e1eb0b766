"""Long videos in training: chunks are computed once more in the backward pass instead of kept.

What stays of a chunk is what it reads and the KVs that come out, so memory grows with the compressed video,
not with what every layer computed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch.utils.checkpoint import checkpoint

from x2l.backbones._language_model import LanguageModelBackbone
from x2l.types import KV, Chunk, joined


def recomputing(backbone: LanguageModelBackbone) -> LanguageModelBackbone:
    """The same backbone, the weights too, whose chunks are pre-filled again when gradients need it.

    Source: activation checkpointing (Chen et al., arXiv 1604.06174), with a chunk as the unit.
    """
    again = copy.copy(backbone)
    again.read = lambda *given: checkpoint(backbone.read, *given, use_reentrant=False)
    again.prefill = _recomputed(backbone.prefill)
    again.prefill_vst = _recomputed(backbone.prefill_vst)
    # A backbone with a memory of its own kind joins it itself.
    if type(backbone).extend is LanguageModelBackbone.extend:
        again.extend = lambda memory, kv: Pieces.behind(memory, backbone.placed(memory, kv))
    return again


def _recomputed(prefill: Callable[..., KV]) -> Callable[..., KV]:
    def run(chunk: Chunk, memory: KV, *rest) -> KV:
        return prefill(chunk, memory.materialise(), *rest)

    return lambda *given: checkpoint(run, *given, use_reentrant=False)


@dataclass(frozen=True)
class Pieces(KV):
    """A memory in pieces: `earlier`, and last this KV itself.

    Joined where it is read, because every chunk keeps the memory that it has read until the backward pass: as
    joined KVs, those would grow with the square of the video's length.
    """

    earlier: tuple[KV, ...] = ()

    @classmethod
    def behind(cls, memory: Pieces | None, kv: KV) -> Pieces:
        """`kv` as the last piece behind the pieces of a memory."""
        earlier = () if memory is None else (*memory.earlier, memory.last)
        return cls(kv.keys, kv.values, kv.positions, kv.rotated, earlier)

    @property
    def last(self) -> KV:
        return KV(self.keys, self.values, self.positions, self.rotated)

    @property
    def num_tokens(self) -> int:
        return sum(piece.num_tokens for piece in (*self.earlier, self.last))

    @property
    def num_bytes(self) -> int:
        return sum(piece.num_bytes for piece in (*self.earlier, self.last))

    def materialise(self) -> KV:
        """The memory as one KV."""
        return joined((*self.earlier, self.last))
