"""VST: the backbone's own visual summary tokens, one pre-fill pass for each ratio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from x2l.engine.chunkwise import check_edge_ratio, with_edges
from x2l.interfaces import Backbone, Compressor, chunk_kv
from x2l.types import KV, Chunk, ChunkKV, Memory, X2LError


@dataclass
class VST(Compressor):
    """Learned visual summary tokens, one pre-fill pass for each ratio.

    Every pass attends to its own KVs only (H-KVs are conditioned on H-KVs).

    edge_ratio: ratio of the first and the last chunk in every pass; None treats them like the others.
    carry: raw tokens behind a chunk's last VST count towards the first VST of the next chunk. "release"
        is the released code's rule and raises where that is undefined (carry >= ratio, or a chunk
        without a VST); "reset" takes the carry modulo the ratio and gives every chunk at least one VST.

    Source: Video-X^2L (arXiv 2506.21184), section 3.3; VSTs: Video-XL (arXiv 2409.14485), section 3.2.
    Differs: the first/last rule is in the released code, not in the paper.
    """

    edge_ratio: int | None = 2
    carry: Literal["release", "reset"] = "reset"

    requires = frozenset({"vst"})

    def __post_init__(self):
        check_edge_ratio(self.edge_ratio)

    def encode(
        self, backbone: Backbone, prefix: KV, chunks: Iterable[Chunk], ratios: Sequence[int]
    ) -> Iterator[ChunkKV]:
        start = _Lane(memory=backbone.extend(None, prefix))
        lanes = dict.fromkeys(ratios, start)
        for chunk, is_edge in with_edges(chunks):
            levels, steps = {}, {}
            for ratio in ratios:
                actual = self.edge_ratio if is_edge and self.edge_ratio else ratio
                # Lanes are equal until their ratios first differ: the first chunk is computed once.
                step = (id(lanes[ratio]), actual)
                if step not in steps:
                    steps[step] = self._encode_chunk(backbone, chunk, lanes[ratio], actual)
                lanes[ratio], levels[ratio] = steps[step]
            yield chunk_kv(chunk, levels)

    def _encode_chunk(self, backbone: Backbone, chunk: Chunk, lane: _Lane, ratio: int) -> tuple[_Lane, KV]:
        after, carry = place_vsts(chunk.visual_tokens.shape[-2], ratio, lane.carry, self.carry)
        kv = backbone.prefill_vst(chunk, lane.memory, after)
        waiting = torch.tensor([-(lane.carry % ratio)])  # raw tokens in front of the chunk
        kv = replace(kv, counts=after.diff(prepend=waiting).float())
        return _Lane(backbone.extend(lane.memory, kv), carry), kv


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
