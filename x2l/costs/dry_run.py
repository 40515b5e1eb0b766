"""A pre-fill on paper: the real compressor and selector on tensors that hold nothing.

Sizes of KVs come out of the method itself, so that any compressor can be planned with, also one of your own.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from x2l.costs.flops import paper_prefill_flops
from x2l.costs.sizes import BackboneSizes
from x2l.interfaces import Backbone, Compressor, Selector
from x2l.types import KV, Chunk, ChunkKV, Geometry, IndexSpec, Memory, VideoFacts, VideoIndex, X2LError

NOWHERE = torch.device("meta")


class PaperBackbone(Backbone):
    """The sizes of a model without the model: pre-fills count FLOPs and return KVs without memory."""

    def __init__(self, sizes: BackboneSizes, dtype: str = "bfloat16"):
        self.sizes, self.dtype = sizes, dtype
        self.provides = frozenset(
            {"unrotated_keys", "attention"} | ({"vst", "token_grid"} if sizes.vst else set())
        )
        self.flops = 0
        self.peak_rows = self.peak_seen = self.peak_memory = self._held = 0
        """Most tokens in one forward call, the same with what they see, and in all memories at one time."""

    @property
    def identity(self) -> str:
        return f"{self.sizes.model} on paper"

    @property
    def geometry(self) -> Geometry:
        decoder = self.sizes.decoder
        return Geometry(decoder.layers, decoder.kv_heads, decoder.head_dim, None, self.dtype)

    @property
    def device(self) -> torch.device:
        return NOWHERE

    def chunk(self, index: int, first_frame: int, num_frames: int) -> Chunk:
        """A chunk of a video at one frame per second."""
        sizes = self.sizes
        if first_frame % sizes.frames_per_step:
            raise X2LError(f"chunk_frames: expected a multiple of {sizes.frames_per_step} for {sizes.model}")
        steps = -(-num_frames // sizes.frames_per_step)
        step = torch.arange(sizes.text_per_step + sizes.tokens_per_step) < sizes.text_per_step
        is_text = step.repeat(steps)
        tokens = torch.empty(len(is_text), sizes.decoder.hidden, device=NOWHERE)
        start = sizes.prompt + first_frame // sizes.frames_per_step * len(step)
        return Chunk(
            index,
            np.arange(first_frame, first_frame + num_frames, dtype=float),
            tokens,
            is_text=is_text if sizes.text_per_step else None,
            positions=torch.arange(start, start + len(tokens))[None],
            next_position=start + len(tokens),
            frames_per_step=sizes.frames_per_step,
        )

    def begin(self, video: VideoFacts | None = None) -> KV:
        return self._kv(self.sizes.prompt, 0)

    def extend(self, memory: _PaperMemory | None, kv: KV) -> _PaperMemory:
        extended = _PaperMemory((memory.num_tokens if memory else 0) + kv.num_tokens)
        self._held += extended.num_tokens
        self.peak_memory = max(self.peak_memory, self._held)
        weakref.finalize(extended, self._release, extended.num_tokens)
        return extended

    def _release(self, tokens: int) -> None:
        self._held -= tokens

    def prefill(self, chunk: Chunk, memory: _PaperMemory) -> KV:
        tokens = len(chunk.visual_tokens)
        for rows, seen in self._blocks(tokens, memory.num_tokens):
            self._count(rows, seen, rows)
        return self._kv(tokens, memory.num_tokens)

    def prefill_vst(self, chunk: Chunk, memory: _PaperMemory, after: Int[Tensor, " vsts"]) -> KV:
        rows = len(chunk.visual_tokens) + len(after)
        self._count(rows, memory.num_tokens, len(after))
        return self._kv(len(after), memory.num_tokens)

    def rotate(self, keys, positions):
        return keys

    def embed(self, frames, times_s):
        raise self._no_network()

    def encode_text(self, text):
        raise self._no_network()

    def embed_text(self, text):
        raise self._no_network()

    def encode_question(self, question):
        raise self._no_network()

    def logits(self, ids, cache):
        raise self._no_network()

    def generate(self, ids, cache, **options):
        raise self._no_network()

    def _no_network(self) -> X2LError:
        return X2LError(f"{self.identity}: reads and writes nothing")

    def _blocks(self, rows: int, cached: int) -> Iterator[tuple[int, int]]:
        """Rows that are computed together, and the cached tokens that each of them sees, in the mean."""
        sizes, step = self.sizes, self.sizes.text_per_step + self.sizes.tokens_per_step
        if sizes.block_steps is None:
            yield rows, cached
            return
        done, end = ((tokens - sizes.prompt) // step for tokens in (cached, cached + rows))
        while done < end:
            block = done // sizes.block_steps
            after = min((block + 1) * sizes.block_steps, end)
            far = max(0, block - sizes.previous_blocks) * sizes.block_steps * sizes.tokens_per_step
            everything = sizes.prompt + done * step
            yield (after - done) * step, everything - far * sizes.tokens_per_step // step
            done = after

    def _count(self, rows: int, cached: int, kept: int) -> None:
        decoder = self.sizes.decoder
        self.peak_rows, self.peak_seen = max(self.peak_rows, rows), max(self.peak_seen, rows + cached)
        if self.sizes.stops_early:
            self.flops += decoder.prefill_flops(rows, cached, kept)
        else:
            self.flops += decoder.layers * decoder.layer_flops(rows, cached)

    def _kv(self, tokens: int, start: int) -> KV:
        geometry = self.geometry
        shape = (geometry.num_layers, geometry.num_kv_heads, tokens, geometry.head_dim)
        keys = torch.empty(shape, dtype=getattr(torch, self.dtype), device=NOWHERE)
        return KV(keys, keys, torch.arange(start, start + tokens, device=NOWHERE)[None, None, None])


@dataclass(frozen=True)
class _PaperMemory(Memory):
    num_tokens: int


@dataclass(frozen=True)
class Sheet:
    """Costs of a video on one backbone: tokens, bytes and FLOPs.

    visual_tokens: with the text between frames. kv_bytes_stored: of the index, every level once.
    memory_tokens: the most that the memories of all passes hold together, one of them while it is copied.
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
    if missing := compressor.requires - backbone.provides:
        raise X2LError(
            f"compressor: needs {', '.join(sorted(missing))}, which {sizes.model} does not provide"
        )
    prefix = backbone.begin()
    chunks = _encoded(backbone, compressor, prefix, ratios, num_frames, chunk_frames)
    index = VideoIndex(prefix, chunks, IndexSpec(backbone.identity, backbone.geometry, {}, {}))
    plan = selector.choose(torch.zeros(len(chunks)), index)
    levels = {ratio: sum(chunk.levels[ratio].num_tokens for chunk in chunks) for ratio in index.ratios}
    hybrid = sum(index.planned_tokens(plan))
    decoder, cached = sizes.decoder, sizes.prompt + index.num_visual_tokens
    itemsize = getattr(torch, dtype).itemsize
    return Sheet(
        model=sizes.model,
        num_frames=num_frames,
        num_chunks=len(chunks),
        visual_tokens=index.num_visual_tokens,
        bytes_per_token=backbone.geometry.bytes_per_token,
        level_tokens=levels,
        kv_bytes_stored=index.num_bytes,
        memory_tokens=backbone.peak_memory,
        hybrid_tokens=hybrid,
        weight_bytes=(decoder.parameters + sizes.tower.parameters) * itemsize,
        activation_bytes=_activations(backbone) * itemsize,
        tower_flops=sizes.tower.flops(num_frames),
        prefill_flops=backbone.flops,
        plain_flops=_plain_flops(sizes, num_frames, chunk_frames, dtype),
        paper_flops={
            ratio: paper_prefill_flops(decoder, index.num_visual_tokens, chunks[0].num_visual_tokens, ratio)
            for ratio in (1, *index.ratios)
        },
        answer_flops=decoder.answer_flops(question_tokens, sizes.prompt + hybrid),
        plain_answer_flops=decoder.answer_flops(question_tokens, cached),
    )


def _activations(backbone: PaperBackbone) -> int:
    """Numbers that a layer holds at one time while a chunk is pre-filled."""
    decoder, heads = backbone.sizes.decoder, backbone.sizes.repeated_heads
    rows = backbone.peak_rows * (4 * decoder.hidden + 3 * decoder.intermediate)
    return rows + backbone.peak_seen * 2 * heads * decoder.head_dim


def _encoded(
    backbone: PaperBackbone,
    compressor: Compressor,
    prefix: KV,
    ratios: tuple[int, ...],
    num_frames: int,
    chunk_frames: int,
) -> tuple[ChunkKV, ...]:
    try:
        return tuple(compressor.encode(backbone, prefix, _chunks(backbone, num_frames, chunk_frames), ratios))
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, X2LError):
            raise
        name = type(compressor).__name__
        raise X2LError(f"compressor {name}: looks at values, which there are none of on paper") from error


def _chunks(backbone: PaperBackbone, num_frames: int, chunk_frames: int) -> Iterator[Chunk]:
    for index, first in enumerate(range(0, num_frames, chunk_frames)):
        yield backbone.chunk(index, first, min(chunk_frames, num_frames - first))


def _plain_flops(sizes: BackboneSizes, num_frames: int, chunk_frames: int, dtype: str) -> int:
    """FLOPs of one pass over everything, chunk by chunk, in which every token sees all before it."""
    backbone = PaperBackbone(replace(sizes, block_steps=None), dtype)
    memory = backbone.extend(None, backbone.begin())
    for chunk in _chunks(backbone, num_frames, chunk_frames):
        memory = backbone.extend(memory, backbone.prefill(chunk, memory))
    return backbone.flops
