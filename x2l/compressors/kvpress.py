"""Presses of the package kvpress that score tokens."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.engine.chunkwise import ScorerCompressor
from x2l.errors import X2LError
from x2l.interfaces import Backbone
from x2l.types import KV, Chunk, ChunkKV


@dataclass
class KVPress(ScorerCompressor):
    """Keeps the tokens that a press of kvpress scores highest; every layer and head keeps its own.

    [layers, kv_heads, tokens, head_dim] become [layers, kv_heads, tokens // ratio, head_dim], one token at
    least. A press sees of each layer what it would see in kvpress: the attention module, what its
    projections read [batch, tokens, hidden], rotated keys and values [batch, kv_heads, tokens, head_dim], no
    attention weights, and `position_embeddings`. It sees the chunk alone, without what came before.
    Counts: equal shares, see ScorerCompressor.

    press: class of kvpress with a method `score`. Those that compress in another way are refused.
    options: its arguments, besides `compression_ratio`.

    Raises X2LError where kvpress cannot be imported, has no such press, or the press fails.

    Source: kvpress (https://github.com/NVIDIA/kvpress); presses name their papers.
    Differs: no hook of kvpress is used, `score` is called chunk by chunk. kvpress 0.5.5 asks for
    transformers below 5.3 and is installed without its dependencies; its hooks fail with 5.23. Tried by hand
    with that pair: KnormPress, SnapKVPress, KeyDiffPress, StreamingLLMPress, LagKVPress, TOVAPress, CURPress
    and NonCausalAttnPress work; those that a hook prepares (ExpectedAttentionPress, QFilterPress) or that
    read attention weights (ObservedAttentionPress) fail in one line. Tests run on a stand-in.
    """

    press: str = "KnormPress"
    options: Mapping[str, Any] = field(default_factory=dict)

    observes = frozenset({"hidden"})
    requires = frozenset({"unrotated_keys"})

    def encode(
        self, backbone: Backbone, prefix: KV, chunks: Iterable[Chunk], ratios: Sequence[int]
    ) -> Iterator[ChunkKV]:
        bound = copy.copy(self)
        bound._press, bound._backbone = self.made(), backbone
        yield from super(KVPress, bound).encode(backbone, prefix, chunks, ratios)

    def made(self) -> Any:
        """The press."""
        try:
            import kvpress
        except ImportError as error:
            raise X2LError(
                f"compressor.press: {self.press} needs the package kvpress ({error}), expected "
                "`pip install --no-deps kvpress` and what it imports"
            ) from error
        press = getattr(kvpress, self.press, None)
        if not hasattr(press, "score"):
            raise X2LError(f"compressor.press: expected a press of kvpress that scores, got {self.press}")
        try:
            return press(**self.options)
        except (TypeError, AssertionError) as error:
            raise X2LError(f"compressor.options: {self.press} takes no such arguments: {error}") from error

    def compress(self, kv: KV, ratio: int) -> KV:
        self._press.compression_ratio = 1 - 1 / ratio  # some score by how many are kept
        return super().compress(kv, ratio)

    def score(self, kv: KV) -> Float[Tensor, "*batch layers kv_heads tokens"]:
        decoder, batch = self._backbone.decoder, kv.keys.shape[:-4]
        rotated = self._backbone.rotate(kv.keys, kv.positions)
        rows = kv.positions[:, 0]
        turns = decoder.rotary_emb(kv.values, rows if self._backbone.num_axes > 1 else rows[0])
        scores = []
        for number, layer in enumerate(decoder.layers):
            seen = (
                kv.hidden[..., number, :, :].reshape(-1, *kv.hidden.shape[-2:]),
                rotated[..., number, :, :, :].reshape(-1, *kv.keys.shape[-3:]),
                kv.values[..., number, :, :, :].reshape(-1, *kv.keys.shape[-3:]),
            )
            scores.append(self._scored(layer.self_attn, *seen, {"position_embeddings": turns}))
        return torch.stack(scores, dim=1).reshape(*batch, *kv.keys.shape[-4:-1])

    def _scored(self, module, hidden: Tensor, keys: Tensor, values: Tensor, given: dict) -> Tensor:
        try:
            return self._press.score(module, hidden, keys, values, None, given)
        except Exception as error:  # a press raises whatever its code does
            said = " ".join(str(error).split())
            raise X2LError(
                f"compressor.press: {self.press} fails on {keys.shape[-2]} tokens: {said}"
            ) from error
