"""Long videos in training: chunks are computed once more in the backward pass instead of kept.

What stays of a chunk is what it reads and the KVs that come out, so memory grows with the compressed video,
not with what every layer computed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from x2l.engine.language_model import LanguageModelBackbone, RotatedMemory
from x2l.types import KV, Chunk, Memory, Observed


def recomputing(backbone: LanguageModelBackbone) -> LanguageModelBackbone:
    """The same backbone, the weights too, whose chunks are pre-filled again when gradients need it.

    Source: activation checkpointing (Chen et al., arXiv 1604.06174), with a chunk as the unit.
    """
    again = copy.copy(backbone)
    again.read = lambda *given: checkpoint(backbone.read, *given, use_reentrant=False)
    again.prefill = _recomputed(backbone.prefill)
    again.prefill_vst = _recomputed(backbone.prefill_vst)
    again.prefill_observed = partial(_observed, backbone, again.prefill)
    # A backbone with a memory of its own kind joins it itself.
    if type(backbone).extend is LanguageModelBackbone.extend:
        again.extend = partial(_extended, backbone)
    return again


def _recomputed(prefill: Callable[..., KV]) -> Callable[..., KV]:
    def run(chunk: Chunk, memory: Memory, *rest) -> KV:
        return prefill(chunk, _joined(memory), *rest)

    return lambda *given: checkpoint(run, *given, use_reentrant=False)


def _observed(
    backbone: LanguageModelBackbone, prefill: Callable[..., KV], chunk: Chunk, memory: Memory, what
) -> tuple[KV, Observed]:
    """The KV with gradients; what is observed has none, and comes from a pass that keeps nothing."""
    with torch.no_grad():
        _, seen = backbone.prefill_observed(chunk, _joined(memory), what)
    return prefill(chunk, memory), seen


def _joined(memory: Memory) -> Memory:
    return memory.joined() if isinstance(memory, Pieces) else memory


@dataclass(frozen=True)
class Pieces(Memory):
    """A memory in pieces, joined where it is read.

    Every chunk keeps the memory that it has read until the backward pass: as joined keys and values, those
    would grow with the square of the video's length.
    """

    pieces: tuple[RotatedMemory, ...] = ()

    @property
    def num_tokens(self) -> int:
        return sum(piece.num_tokens for piece in self.pieces)

    def joined(self) -> RotatedMemory:
        return RotatedMemory.joined(self.pieces)


def _extended(backbone: LanguageModelBackbone, memory: Pieces | None, kv: KV) -> Pieces:
    memory = memory or Pieces()
    return Pieces((*memory.pieces, backbone.placed(kv, memory.num_tokens)))
