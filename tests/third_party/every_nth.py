"""A compressor as a user would write one: a file of its own that x2l knows nothing about."""

from dataclasses import dataclass

from x2l import KV, ChunkCompressor, register


@register
@dataclass
class EveryNth(ChunkCompressor):
    """Keeps every `ratio`-th token and drops the others.

    Source: none, an example.
    """

    def compress(self, kv, ratio):
        return KV(kv.keys[..., ::ratio, :], kv.values[..., ::ratio, :], kv.positions[..., ::ratio])
