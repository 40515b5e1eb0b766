"""A backbone on paper: the sizes of a model, whose tensors hold nothing."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from x2l.costs.sizes import BackboneSizes
from x2l.interfaces import Backbone
from x2l.types import (
    KV,
    Chunk,
    ChunkKV,
    Geometry,
    IndexSpec,
    Memory,
    VideoFacts,
    VideoIndex,
    X2LError,
)

NOWHERE = torch.device("meta")


class PaperBackbone(Backbone):
    """The sizes of a model without the model: pre-fills count FLOPs and return KVs without memory."""

    def __init__(self, sizes: BackboneSizes, dtype: str = "bfloat16"):
        self.sizes, self.dtype = sizes, dtype
        self.provides = frozenset(
            {"unrotated_keys", "attention"} | ({"vst", "token_grid"} if sizes.vst else set())
        )
        self.flops = 0
        self.peak_rows = self.peak_memory = self._held = 0
        """Most tokens in one forward call, and in all memories at one time with the room behind them."""

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

    def index(self, chunks: tuple[ChunkKV, ...]) -> VideoIndex:
        """An index of chunks that were encoded by it."""
        return VideoIndex(self.begin(), chunks, IndexSpec(self.identity, self.geometry, {}, {}))

    def begin(self, video: VideoFacts | None = None) -> KV:
        return self._kv(self.sizes.prompt, 0)

    def extend(self, memory: _PaperMemory | None, kv: KV) -> _PaperMemory:
        extended = _PaperMemory((memory.num_tokens if memory else 0) + kv.num_tokens)
        held = extended.num_tokens + self.peak_rows  # with room for what is read behind it
        self._held += held
        self.peak_memory = max(self.peak_memory, self._held)
        weakref.finalize(extended, self._release, held)
        return extended

    def _release(self, tokens: int) -> None:
        self._held -= tokens

    def prefill(self, chunk: Chunk, memory: _PaperMemory) -> KV:
        tokens = len(chunk.visual_tokens)
        for rows, cached, unseen in self._blocks(tokens, memory.num_tokens):
            self._count(rows, cached, rows, unseen)
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

    def _blocks(self, rows: int, cached: int) -> Iterator[tuple[int, int, int]]:
        """Rows that are computed together, cached tokens, and pairs of both that do not see each other."""
        sizes, step = self.sizes, self.sizes.text_per_step + self.sizes.tokens_per_step
        if sizes.block_steps is None:
            yield rows, cached, 0
            return
        done, end = ((tokens - sizes.prompt) // step for tokens in (cached, cached + rows))
        while done < end:
            block = done // sizes.block_steps
            after = min((block + 1) * sizes.block_steps, end)
            far = max(0, block - sizes.previous_blocks) * sizes.block_steps * sizes.tokens_per_step
            unseen = (after - done) * sizes.tokens_per_step * far
            yield (after - done) * step, sizes.prompt + done * step, unseen
            done = after

    def _count(self, rows: int, cached: int, kept: int, unseen: int = 0) -> None:
        decoder, stops_early = self.sizes.decoder, self.sizes.stops_early
        self.peak_rows = max(self.peak_rows, rows)
        if stops_early:
            self.flops += decoder.prefill_flops(rows, cached, kept)
        else:
            self.flops += decoder.layers * decoder.layer_flops(rows, cached)
        self.flops -= (decoder.layers - stops_early) * decoder.attention_flops(1, unseen)

    def _kv(self, tokens: int, start: int) -> KV:
        geometry = self.geometry
        shape = (geometry.num_layers, geometry.num_kv_heads, tokens, geometry.head_dim)
        keys = torch.empty(shape, dtype=getattr(torch, self.dtype), device=NOWHERE)
        return KV(keys, keys, torch.arange(start, start + tokens, device=NOWHERE)[None, None, None])


@dataclass(frozen=True)
class _PaperMemory(Memory):
    num_tokens: int
