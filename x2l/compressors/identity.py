"""No compression: every level is the chunk's full KV. The reference that all others are held against."""

from __future__ import annotations

from dataclasses import dataclass

from x2l.engine.chunkwise import ChunkCompressor
from x2l.types import KV


@dataclass
class Identity(ChunkCompressor):
    """No compression: every level is the chunk's full KV.

    Source: Video-X^2L (arXiv 2506.21184), Table 2, row "no compression".
    """

    def compress(self, kv: KV, ratio: int) -> KV:
        return kv
