"""Compressor "packed": the levels of another one in 8 or 4 bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from x2l.compressors.vst import VST
from x2l.interfaces import Backbone, Compressor
from x2l.quantised import Bits, PackedKV
from x2l.types import KV, Chunk, ChunkKV, Level, Plan, Question, VideoIndex


@dataclass
class Packed(Compressor):
    """Holds what `inner` makes in 8 or 4 bits, in memory and on disk; it is unpacked on the device.

    While a video is indexed, later chunks see what `inner` made, not what is held of it. A level that would
    be no smaller packed (of very few tokens) is held as it is.

    Source: KIVI (arXiv 2402.02750): keys by channel, values by token.
    Differs: keys are packed before rotation, a level of a chunk is one group, and none of it stays full.
    """

    inner: Compressor = field(default_factory=VST)
    bits: Bits = 8

    def __post_init__(self):
        self.requires = self.inner.requires

    def encode(
        self, backbone: Backbone, prefix: KV, chunks: Iterable[Chunk], ratios: Sequence[int]
    ) -> Iterator[ChunkKV]:
        for chunk in self.inner.encode(backbone, prefix, chunks, ratios):
            # What is one object stays one object.
            held = {id(level): self._held(level) for level in chunk.levels.values()}
            yield replace(chunk, levels={ratio: held[id(level)] for ratio, level in chunk.levels.items()})

    def _held(self, level: Level) -> Level:
        packed = PackedKV.of(level.materialise(), self.bits)
        return packed if packed.num_bytes < level.num_bytes else level

    @property
    def refines(self) -> bool:
        return self.inner.refines

    def refine(
        self, levels: Sequence[KV], plan: Plan, question: Question, index: VideoIndex, backbone: Backbone
    ) -> Sequence[KV]:
        return self.inner.refine(levels, plan, question, index, backbone)
