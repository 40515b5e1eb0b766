"""What a video costs on paper: indexed once, asked once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from x2l.costs.counting import PaperRun
from x2l.costs.flops import paper_prefill_flops
from x2l.costs.paper import PaperBackbone
from x2l.costs.sizes import BackboneSizes
from x2l.interfaces import Compressor, Selector
from x2l.registry import require_provided


@dataclass(frozen=True)
class Sheet:
    """Costs of a video on one backbone: tokens, bytes and FLOPs.

    visual_tokens: with the text between frames. kv_bytes_stored: of the index, every level once.
    memory_tokens: of the memories of all passes with the room behind each, while one of them is copied.
    hybrid_tokens: in the cache of a question.
    """

    model: str
    num_frames: int
    num_chunks: int
    visual_tokens: int
    bytes_per_token: int
    level_tokens: dict[int, int]
    kv_bytes_stored: int
    memory_tokens: int
    hybrid_tokens: int
    weight_bytes: int
    activation_bytes: int
    tower_flops: int
    prefill_flops: int
    plain_flops: int
    paper_flops: dict[int, int] = field(default_factory=dict)
    answer_flops: int = 0
    plain_answer_flops: int = 0

    @property
    def cache_reduction(self) -> float:
        """Share of the uncompressed KV tokens of a video that is not in the cache of a question, 0..1."""
        return 1 - self.hybrid_tokens / self.visual_tokens

    @property
    def peak_bytes(self) -> int:
        """On the device while pre-filling: weights, the memories, one chunk's activations."""
        return self.weight_bytes + self.memory_tokens * self.bytes_per_token + self.activation_bytes


def dry_run(
    sizes: BackboneSizes,
    compressor: Compressor,
    selector: Selector,
    ratios: tuple[int, ...],
    num_frames: int,
    chunk_frames: int = 10,
    dtype: str = "bfloat16",
    question_tokens: int = 64,
) -> Sheet:
    """Index a video of `num_frames` and ask one question, on paper.

    Raises X2LError if the model does not provide what the compressor requires.
    """
    backbone = PaperBackbone(sizes, dtype)
    require_provided(compressor, backbone.provides, backbone.identity)
    counts = PaperRun(sizes, compressor, ratios, chunk_frames, dtype).count(num_frames)
    index = backbone.index(counts.chunks)
    plan = selector.choose(torch.zeros(len(index.chunks)), index)
    hybrid = sum(index.planned_tokens(plan))
    decoder, itemsize = sizes.decoder, getattr(torch, dtype).itemsize
    tokens, first = counts.visual_tokens, index.chunks[0].num_visual_tokens
    return Sheet(
        model=sizes.model,
        num_frames=num_frames,
        num_chunks=len(index.chunks),
        visual_tokens=tokens,
        bytes_per_token=backbone.geometry.bytes_per_token,
        level_tokens=counts.level_tokens,
        kv_bytes_stored=counts.stored_bytes,
        memory_tokens=counts.memory_tokens,
        hybrid_tokens=hybrid,
        weight_bytes=(decoder.parameters + sizes.tower.parameters) * itemsize,
        activation_bytes=counts.activations * itemsize,
        tower_flops=sizes.tower.flops(num_frames),
        prefill_flops=counts.prefill_flops,
        plain_flops=counts.plain_flops,
        paper_flops={r: paper_prefill_flops(decoder, tokens, first, r) for r in (1, *index.ratios)},
        answer_flops=decoder.answer_flops(question_tokens, sizes.prompt + hybrid),
        plain_answer_flops=decoder.answer_flops(question_tokens, sizes.prompt + tokens),
    )
