"""transformers' own video models as backbones; a family adds how it sees and what stands between frames.

The prompt is the chat template of the model's own tokenizer. Chunks are pre-filled one behind the other on
the stock decoder, which is the whole video in one pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from x2l.engine.hooks import outputs_of
from x2l.engine.language_model import RotatedMemory, memory_cache, with_options
from x2l.engine.loading import load_stock
from x2l.engine.reading import ReadingBackbone
from x2l.storage.hub import one_line
from x2l.types import KV, Chunk, Question, VideoFacts, X2LError


class StockBackbone(ReadingBackbone):
    """One of transformers' video models. A family subclasses this in a file of its own.

    settings: of the checkpoint's video processor (preprocessor_config.json and its kin).
    """

    placeholder: ClassVar[str] = "<video>"
    """What stands for the video in the text that the chat template makes."""
    needed_settings: ClassVar[tuple[str, ...]] = ("image_mean", "image_std")
    """Settings of the video processor that the family reads; a checkpoint without them is refused.

    Dotted: size.height; one of several: min_pixels|size.shortest_edge.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: Mapping[str, Any],
        identity: str | None = None,
    ):
        super().__init__(model, tokenizer, identity)
        self.settings = settings

    @classmethod
    def from_pretrained(
        cls, model: str, *, device: str = "cpu", dtype: str = "float32", attention: str = "sdpa"
    ) -> StockBackbone:
        """Load a checkpoint folder or a model of the hub, from safetensors only.

        dtype: fp32, bf16 or fp16, or torch's names for them.

        attention: an implementation known to transformers (sdpa, eager, flash_attention_2, ...).

        Raises X2LError naming the model and what is wrong with it.
        """
        return cls(*load_stock(model, cls, device, dtype, attention))

    def intro(self, video: VideoFacts | None) -> str:
        """Text between the prompt and the first frame."""
        return ""

    def outro(self) -> str:
        """Text between the last frame and the question."""
        return ""

    def begin(self, video: VideoFacts | None = None) -> KV:
        embeds = self.embed_ids(self.prompt_ids(video))
        return self._prefill(embeds, None, self._line(0, len(embeds)))

    def prompt_ids(self, video: VideoFacts | None = None) -> Int[Tensor, " tokens"]:
        before, _ = self._around_the_video(Question("?"))
        return self.encode_text(before + self.intro(video))

    def prefill(self, chunk: Chunk, memory: RotatedMemory) -> KV:
        """Raises X2LError for a chunk that does not say where it stands (one that `read` did not make)."""
        if chunk.positions is None:
            raise X2LError(f"chunk {chunk.index}: has no positions, expected one made by read()")
        return self._prefill(chunk.visual_tokens, memory, chunk.positions, **self._besides(chunk))

    def _besides(self, chunk: Chunk, num_before: int = 0) -> dict[str, Any]:
        if chunk.deepstack is None:
            return {}
        is_visual = torch.ones(chunk.visual_tokens.shape[-2], dtype=torch.bool)
        is_visual = is_visual if chunk.is_text is None else ~chunk.is_text
        return {
            "visual_pos_masks": torch.cat((is_visual.new_zeros(num_before), is_visual))[None],
            "deepstack_visual_embeds": list(chunk.deepstack),
        }

    def _prefill(
        self,
        embeds: Float[Tensor, "*batch tokens hidden"],
        memory: RotatedMemory | None,
        positions: Int[Tensor, "axes tokens"],
        **deepstack: Any,
    ) -> KV:
        batched = embeds if embeds.ndim == 3 else embeds[None]
        cache = memory_cache(memory, *batched.shape[:2])
        start = cache.get_seq_length()
        attentions = [layer.self_attn for layer in self.decoder.layers]
        # Rotating back what lies in the cache would cost a digit in half precision.
        with outputs_of(map(_key_module, attentions)) as outputs:
            self.decoder(
                inputs_embeds=batched,
                past_key_values=cache,
                position_ids=self._position_ids(positions, start, len(batched)),
                use_cache=True,
                **deepstack,
            )
        by_layer = zip(outputs, attentions, strict=True)
        keys = torch.stack([_by_head(keys, attention.head_dim) for (keys,), attention in by_layer], dim=1)
        values = torch.stack([layer.values[:, :, start:] for layer in cache.layers], dim=1)
        if embeds.ndim == 2:
            keys, values = keys[0], values[0]
        return KV(keys, values, positions[:, None, None])

    def encode_question(self, question: Question) -> Int[Tensor, " tokens"]:
        """Everything that the chat template puts behind the video, earlier turns included, and the beginning
        of the answer."""
        _, after = self._around_the_video(question)
        return self.encode_text(self.outro() + after + question.prompt.answer)

    def _around_the_video(self, question: Question) -> tuple[str, str]:
        """The text in front of the video and behind it, by the model's own chat template."""
        said = [*(text for turn in question.history for text in turn), with_options(question)]
        messages = [
            _message(role, text) for role, text in zip(cycle(("user", "assistant")), said, strict=False)
        ]
        messages[0]["content"].insert(0, {"type": "video"})
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # whatever a template raises
            raise X2LError(f"backbone: its chat template fails on a video, {one_line(error)}") from error
        before, found, after = text.partition(self.placeholder)
        if not found:
            raise X2LError(f"backbone: its chat template puts no {self.placeholder} where the video stands")
        return before, after


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _key_module(attention: nn.Module) -> nn.Module:
    """The module that keys come out of, right before rotation: some models normalise them."""
    return getattr(attention, "k_norm", attention.k_proj)


def _by_head(keys: Tensor, head_dim: int) -> Float[Tensor, "batch heads tokens dim"]:
    keys = keys if keys.ndim == 4 else keys.unflatten(-1, (-1, head_dim))
    return keys.transpose(1, 2)
