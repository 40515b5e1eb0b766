"""Video-XL: Qwen2 with visual summary tokens behind a CLIP tower."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from x2l.backbones._loading import load_video_xl
from x2l.backbones._qwen2_vst import VSTForCausalLM
from x2l.backbones._words import unknown_words
from x2l.cache import filled_cache
from x2l.fingerprint import checkpoint_fingerprint
from x2l.interfaces import Backbone
from x2l.pixels import exact_convolutions, preprocess
from x2l.rotary import cos_sin, rotate
from x2l.types import KV, Geometry, Question, X2LError

SYSTEM_PROMPT = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
ANSWER_PROMPT = "<|im_end|>\n<|im_start|>assistant\n"


class VideoXL(Backbone):
    """Video-XL: Qwen2 with visual summary tokens behind a CLIP tower.

    Keys are stored before rotation and get fresh positions whenever they are attended to.
    Source: Video-XL (arXiv 2409.14485), sections 3.1 and 3.2.
    """

    provides = frozenset({"vst", "attention", "unrotated_keys"})
    default_model: ClassVar[str | None] = None
    """The checkpoint folder that is meant when none is given."""

    def __init__(
        self,
        model: VSTForCausalLM,
        tokenizer: PreTrainedTokenizerBase | None = None,
        identity: str | None = None,
        frames_per_batch: int = 64,
    ):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.frames_per_batch = frames_per_batch
        self._identity = identity

    @classmethod
    def from_pretrained(
        cls,
        model: str | None = None,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        attention: str = "sdpa",
        frames_per_batch: int = 64,
    ) -> VideoXL:
        """Load a checkpoint folder: config.json, safetensors and a tokenizer.

        dtype: fp32, bf16 or fp16, or torch's names for them.

        attention: an implementation known to transformers (sdpa, eager, flash_attention_2, ...).
        """
        if frames_per_batch < 1:
            raise X2LError(f"backbone.frames_per_batch: expected at least 1, got {frames_per_batch}")
        model = model or cls.default_model
        network, tokenizer = load_video_xl(model, device, dtype, attention)
        return cls(network, tokenizer, checkpoint_fingerprint(Path(model)), frames_per_batch)

    @property
    def identity(self) -> str:
        """Of a network that was not loaded from a folder: a fingerprint of its parameters as they are."""
        if self._identity is not None:
            return self._identity
        digest = hashlib.sha256()
        for name, parameter in self.model.named_parameters():
            digest.update(f"{name} {parameter.detach().double().sum().item()!r}".encode())
        return f"in memory@{digest.hexdigest()[:16]}"

    @property
    def geometry(self) -> Geometry:
        config = self.model.config
        return Geometry(
            num_layers=config.num_hidden_layers,
            num_kv_heads=config.num_key_value_heads,
            head_dim=self.model.model.layers[0].self_attn.head_dim,
            tokens_per_frame=getattr(config, "tokens_per_frame", 144),
            dtype=str(self.model.dtype).removeprefix("torch."),
        )

    @property
    def device(self) -> torch.device:
        return self.model.device

    def embed(
        self, frames: UInt8[np.ndarray, "frames height width 3"], times_s: Float[np.ndarray, " frames"]
    ) -> Float[Tensor, "tokens hidden"]:
        size = self.model.config.vision.image_size
        with exact_convolutions():
            tokens = [
                self.model.visual_tokens(self._to_model(preprocess(frames[batch], size)), seconds)
                for batch, seconds in self._batches(times_s)
            ]
        return torch.cat(tokens).flatten(0, 1)

    def _batches(self, times_s: Float[np.ndarray, " frames"]) -> Iterator[tuple[slice, Tensor]]:
        """Frames that are embedded together, and their times."""
        for start in range(0, len(times_s), self.frames_per_batch):
            batch = slice(start, start + self.frames_per_batch)
            yield batch, torch.from_numpy(times_s[batch])

    def begin(self) -> KV:
        embeds = self.embed_ids(self._encode(SYSTEM_PROMPT))
        return self._prefill(embeds, memory=None)

    def extend(self, memory: KV | None, kv: KV) -> KV:
        """Behind n cached tokens, the new keys take the positions n, n + 1, ..."""
        start = 0 if memory is None else memory.num_tokens
        positions = torch.arange(start, start + kv.num_tokens, device=kv.keys.device)[None, None, None]
        new = KV(self.rotate(kv.keys, positions), kv.values, positions, rotated=True)
        if memory is None:
            return new
        return KV(
            torch.cat((_match_batch(memory.keys, new.keys), new.keys), dim=-2),
            torch.cat((_match_batch(memory.values, new.values), new.values), dim=-2),
            torch.cat((memory.positions, new.positions), dim=-1),
            rotated=True,
        )

    def prefill(self, visual_tokens: Float[Tensor, "*batch tokens hidden"], memory: KV) -> KV:
        return self._prefill(visual_tokens, memory)

    def prefill_vst(
        self, visual_tokens: Float[Tensor, "*batch tokens hidden"], memory: KV, after: Int[Tensor, " vsts"]
    ) -> KV:
        return self._prefill(visual_tokens, memory, after.to(self.device))

    def _prefill(
        self,
        embeds: Float[Tensor, "*batch tokens hidden"],
        memory: KV | None,
        after: Int[Tensor, " vsts"] | None = None,
    ) -> KV:
        batched = embeds if embeds.ndim == 3 else embeds[None]
        cache = DynamicCache() if memory is None else _memory_cache(memory, len(batched))
        start = cache.get_seq_length()
        keys, values = self.model.model.prefill(batched, cache, after)
        if embeds.ndim == 2:
            keys, values = keys[0], values[0]
        rows = torch.arange(keys.shape[-2], device=keys.device)
        positions = start + (rows if after is None else after + rows)
        return KV(keys, values, positions[None, None, None])

    def rotate(self, keys, positions):
        inv_freq = self.model.model.rotary_emb.inv_freq.to(keys.device)
        return rotate(keys, *cos_sin(positions[0], inv_freq, keys.dtype))

    def encode_text(self, text: str) -> Int[Tensor, " tokens"]:
        return self._encode(text)

    def embed_text(self, text: str) -> Float[Tensor, "tokens hidden"]:
        return self.embed_ids(self._encode(text))

    def embed_ids(self, ids: Int[Tensor, "*batch tokens"]) -> Float[Tensor, "*batch tokens hidden"]:
        return self.model.get_input_embeddings()(ids.to(self.device))

    def encode_question(self, question: Question) -> Int[Tensor, " tokens"]:
        """Template of the released example: newline, earlier turns, question, answer prompt."""
        turns = "".join(
            f"\n{asked}{ANSWER_PROMPT}{answered}<|im_end|>\n<|im_start|>user"
            for asked, answered in question.history
        )
        return self._encode(f"{turns}\n{with_options(question)}{ANSWER_PROMPT}")

    def logits(self, ids: Int[Tensor, " tokens"], cache: DynamicCache) -> Float[Tensor, "tokens vocab"]:
        output = self.model(input_ids=ids[None].to(self.device), past_key_values=cache, use_cache=True)
        return output.logits[0].float()

    def attention(
        self, ids: Int[Tensor, " tokens"], cache: DynamicCache
    ) -> Float[Tensor, "layers heads cached"]:
        cached = cache.get_seq_length()
        with _attention_weights(self.model):
            output = self.model(
                input_ids=ids[None].to(self.device),
                past_key_values=cache,
                use_cache=True,
                output_attentions=True,
                logits_to_keep=1,
            )
        return torch.stack([weights[0, :, -1, :cached] for weights in output.attentions])

    def generate(self, ids: Int[Tensor, " tokens"], cache: DynamicCache, **options) -> str:
        tokens = self.generate_ids(ids, cache, **options)
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def generate_ids(
        self, ids: Int[Tensor, " tokens"], cache: DynamicCache, **options
    ) -> Int[Tensor, " new_tokens"]:
        """Greedy unless `do_sample`; 64 new tokens by default, as in the released example.

        Raises X2LError for beam search, which would need a cache for every beam.
        """
        if options.get("num_beams", 1) > 1:
            raise X2LError(f"num_beams: expected 1, got {options['num_beams']}")
        ids = ids[None].to(self.device)
        seen = cache.get_seq_length() + ids.shape[1]
        output = self.model.generate(
            ids,
            past_key_values=cache,
            attention_mask=torch.ones(1, seen, dtype=torch.long, device=self.device),
            **{"max_new_tokens": 64, "do_sample": False, **options},
        )
        return output[0, ids.shape[1] :]

    def unknown_words(self, text: str) -> list[str]:
        return unknown_words(self.tokenizer, text)

    def _encode(self, text: str) -> Int[Tensor, " tokens"]:
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        return ids[0].to(self.device)

    def _to_model(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.device, self.model.dtype)


def with_options(question: Question) -> str:
    """The question, its options as (A), (B), ... one per line behind it."""
    lines = [f"({chr(ord('A') + i)}) {option}" for i, option in enumerate(question.options)]
    return "\n".join([question.text, *lines])


def _match_batch(memory: Tensor, new: Tensor) -> Tensor:
    """One memory may be shared by a batch (the prefix is)."""
    return memory.expand(*new.shape[: new.ndim - 4], *memory.shape[-4:])


def _memory_cache(memory: KV, batch: int) -> DynamicCache:
    shape = (batch, *memory.keys.shape[-4:])
    return filled_cache(memory.keys.expand(shape), memory.values.expand(shape))


@contextmanager
def _attention_weights(model):
    """Only the eager implementation returns attention weights; the others never form them."""
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(implementation)
