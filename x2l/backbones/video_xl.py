"""Video-XL: Qwen2 with visual summary tokens behind a CLIP tower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from x2l.costs.flops import TowerSizes, mlp
from x2l.costs.sizes import QWEN2_7B, BackboneSizes
from x2l.engine.language_model import LanguageModelBackbone, RotatedMemory, memory_cache, with_options
from x2l.engine.loading import identity_of, load_video_xl
from x2l.networks.qwen2_vst import VSTForCausalLM
from x2l.preprocessing.pixels import preprocess
from x2l.rounding import exact_convolutions
from x2l.types import KV, Chunk, Question, VideoFacts, X2LError

SYSTEM_PROMPT = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
ANSWER_PROMPT = "<|im_end|>\n<|im_start|>assistant\n"


class VideoXL(LanguageModelBackbone):
    """Video-XL: Qwen2 with visual summary tokens behind a CLIP tower.

    Keys get fresh positions, counted from 0 over the memory, whenever they are attended to.
    Source: Video-XL (arXiv 2409.14485), sections 3.1 and 3.2.
    """

    sizes = BackboneSizes(
        "Video-XL-7B",
        QWEN2_7B,
        TowerSizes(1024, 4096, 23, 577, behind=mlp(1024, 3584, 3584)),
        144,
        vst=True,
        stops_early=True,
    )

    provides = LanguageModelBackbone.provides | {"vst", "token_grid", "frame_features"}
    network_parts: ClassVar[dict[str, str]] = {
        "vst": r"\bbeacon_",
        "projector": r"mm_projector\.",
        "tower": r"vision_tower\.",
    }
    model_types = frozenset({"llava_qwen"})
    base_count = 2.0
    default_model: ClassVar[str | None] = None
    """The checkpoint folder that is meant when none is given."""

    def __init__(
        self,
        model: VSTForCausalLM,
        tokenizer: PreTrainedTokenizerBase | None = None,
        identity: str | None = None,
        frames_per_batch: int = 64,
    ):
        super().__init__(model, tokenizer, identity)
        self.frames_per_batch = frames_per_batch

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
        return cls(network, tokenizer, identity_of(network, model), frames_per_batch)

    @cached_property  # every question is checked against it, and it takes a configuration of the tower
    def tokens_per_frame(self) -> int:
        return getattr(self.model.config, "tokens_per_frame", 144)

    def embed(
        self, frames: UInt8[np.ndarray, "frames height width 3"], times_s: Float[np.ndarray, " frames"]
    ) -> Float[Tensor, "tokens hidden"]:
        seconds = torch.from_numpy(times_s).split(self.frames_per_batch)
        with exact_convolutions():
            tokens = [
                self.model.visual_tokens(pixels, times)
                for pixels, times in zip(self._pixels(frames), seconds, strict=True)
            ]
        return torch.cat(tokens).flatten(0, 1)

    def frame_features(
        self, frames: UInt8[np.ndarray, "frames height width 3"]
    ) -> Float[Tensor, "frames dim"]:
        """CLS of the tower's selected layer, before the projection."""
        tower = self.model.model.vision_tower
        with exact_convolutions():
            return torch.cat([tower.summary(pixels) for pixels in self._pixels(frames)])

    def _pixels(
        self, frames: UInt8[np.ndarray, "frames height width 3"]
    ) -> Iterator[Float[Tensor, "batch 3 size size"]]:
        """Frames as the tower sees them, in batches."""
        size, step = self.model.config.vision.image_size, self.frames_per_batch
        for start in range(0, len(frames), step):
            yield preprocess(frames[start : start + step], size, self.device).to(self.model.dtype)

    def begin(self, video: VideoFacts | None = None) -> KV:
        return self._prefill(self.embed_ids(self.prompt_ids(video)), memory=None)

    def prompt_ids(self, video: VideoFacts | None = None) -> Int[Tensor, " tokens"]:
        return self.encode_text(SYSTEM_PROMPT)

    def placed(self, kv: KV, num_cached: int) -> RotatedMemory:
        """Behind n cached tokens, the new keys take the positions n, n + 1, ..."""
        positions = torch.arange(num_cached, num_cached + kv.num_tokens, device=kv.keys.device)
        return super().placed(replace(kv, positions=positions[None, None, None]), num_cached)

    def prefill(self, chunk: Chunk, memory: RotatedMemory) -> KV:
        kv = self._prefill(chunk.visual_tokens, memory)
        return kv if chunk.positions is None else replace(kv, positions=chunk.positions[:, None, None])

    def prefill_vst(self, chunk: Chunk, memory: RotatedMemory, after: Int[Tensor, " vsts"]) -> KV:
        """In the uncompressed sequence, a VST stands where the raw token in front of it does."""
        after = after.to(self.device)
        kv = self._prefill(chunk.visual_tokens, memory, after)
        if chunk.positions is None:
            return kv
        return replace(kv, positions=chunk.positions[:, None, None, after - 1])

    def _prefill(
        self,
        embeds: Float[Tensor, "*batch tokens hidden"],
        memory: RotatedMemory | None,
        after: Int[Tensor, " vsts"] | None = None,
    ) -> KV:
        batched = embeds if embeds.ndim == 3 else embeds[None]
        num_read = batched.shape[1] + (0 if after is None else len(after))
        cache = memory_cache(memory, len(batched), num_read)
        start = cache.get_seq_length()
        keys, values = self.decoder.prefill(batched, cache, after)
        if embeds.ndim == 2:
            keys, values = keys[0], values[0]
        rows = torch.arange(keys.shape[-2], device=keys.device)
        positions = start + (rows if after is None else after + rows)
        return KV(keys, values, positions[None, None, None])

    def encode_question(self, question: Question) -> Int[Tensor, " tokens"]:
        return self.encode_text(question_prompt(question))


def question_prompt(question: Question) -> str:
    """Template of the released example: newline, earlier turns, question, answer prompt and its beginning."""
    turns = "".join(
        f"\n{asked}{ANSWER_PROMPT}{answered}<|im_end|>\n<|im_start|>user"
        for asked, answered in question.history
    )
    return f"{turns}\n{with_options(question)}{ANSWER_PROMPT}{question.prompt.answer}"
