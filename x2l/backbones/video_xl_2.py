"""Video-XL-2: time stamps between groups of four frames, and a pre-fill that looks at blocks nearby."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from x2l.backbones.video_xl import SYSTEM_PROMPT, question_prompt
from x2l.cache import FilledCache
from x2l.costs.flops import TowerSizes, auto_encoder, mlp
from x2l.costs.sizes import QWEN2_7B, BackboneSizes
from x2l.engine.language_model import RotatedMemory
from x2l.engine.loading import identity_of, load_video_xl_2
from x2l.engine.reading import Block, ReadingBackbone
from x2l.networks.sparse_prefill import SparsePass
from x2l.networks.video_xl_2 import VideoXL2ForCausalLM
from x2l.preprocessing.pixels import Preprocessing
from x2l.types import KV, Chunk, Clip, Question, VideoFacts, X2LError, joined

TEXT = -1
"""The group of tokens that everything behind them sees: the prompt and time stamps."""


@dataclass(frozen=True)
class GroupedKV(KV):
    """A chunk's KV that knows which group of frames each token is of (TEXT: of none)."""

    groups: Int[Tensor, " tokens"] | None = None


@dataclass(frozen=True)
class GroupedMemory(RotatedMemory):
    """A memory that knows which group of frames each token is of (TEXT: of none)."""

    groups: Int[Tensor, " tokens"]

    @property
    def next_group(self) -> int:
        return int(self.groups.max()) + 1


class VideoXL2(ReadingBackbone):
    """Video-XL-2: SigLIP, an auto-encoder over four frames, time stamps, and a sparse pre-fill.

    Visual tokens see the prompt, every time stamp, their own block of groups and the blocks right before it;
    time stamps see everything. A question sees all that is in the cache.

    Compressed as in the paper by `mean_pool` with ratios 1 and 4, edge_ratio 1 and remainder "drop", in
    chunks of 16 frames.

    Source: Video-XL-2 (arXiv 2506.19225); numerics of its released code.
    """

    sizes = BackboneSizes(
        "Video-XL-2-7B",
        QWEN2_7B,
        # The auto-encoder and the projector read 576 features for each of four frames.
        TowerSizes(
            1152,
            4304,
            26,
            729,
            behind=(auto_encoder(1152, 576) + 576 * mlp(1152, 3584, 3584)) // (4 * 729),
        ),
        144,
        4,
        text_per_step=8,
        stops_early=True,
        block_steps=4,
        previous_blocks=3,
        chunk_frames=16,
    )

    # Who sees which block is decided while it is pre-filled: weights over a whole chunk are not formed.
    provides = ReadingBackbone.provides - {"observe_attention"}
    frames_per_step = 4
    model_types = frozenset({"video_xl_2"})
    network_parts: ClassVar[dict[str, str]] = {
        "projector": r"\b(mm_projector|sae)\.",
        "tower": r"vision_tower\.",
    }

    def __init__(
        self,
        model: VideoXL2ForCausalLM,
        tokenizer: PreTrainedTokenizerBase | None = None,
        identity: str | None = None,
        block_groups: int = 4,
        previous_blocks: int = 3,
        frames_per_batch: int = 64,
    ):
        super().__init__(model, tokenizer, identity)
        self.block_groups, self.previous_blocks = block_groups, previous_blocks
        self.frames_per_batch = frames_per_batch

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        attention: str = "sdpa",
        block_groups: int = 4,
        previous_blocks: int = 3,
        frames_per_batch: int = 64,
    ) -> VideoXL2:
        """Load a checkpoint folder: config.json, safetensors and a tokenizer.

        dtype: fp32, bf16 or fp16, or torch's names for them.

        attention: for questions, an implementation known to transformers (sdpa, eager, ...).

        block_groups, previous_blocks: groups of four frames in a block of the pre-fill, and how many blocks
        before its own a visual token sees.
        """
        numbers = {
            "block_groups": block_groups,
            "previous_blocks": previous_blocks,
            "frames_per_batch": frames_per_batch,
        }
        for name, number in numbers.items():
            if number < 1:
                raise X2LError(f"backbone.{name}: expected at least 1, got {number}")
        network, tokenizer = load_video_xl_2(model, device, dtype, attention)
        identity = f"{identity_of(network, model)}, blocks {block_groups}/{previous_blocks}"
        return cls(network, tokenizer, identity, **numbers)

    def pieces(self, clip: Clip) -> Iterator[str | Block]:
        vision = self.model.config.vision
        preprocess = Preprocessing(vision.image_size, short_side=None, mean=(0.5,) * 3, std=(0.5,) * 3)
        ends = range(self.frames_per_batch, len(clip.frames), self.frames_per_batch)
        features = [
            self.model.model.vision_tower(preprocess(frames, self.device).to(self.model.dtype))
            for frames in np.split(clip.frames, ends)
        ]
        groups = self.model.visual_tokens(torch.cat(features))
        for second, tokens in zip(clip.times_s[:: self.frames_per_step], groups, strict=True):
            yield f"Time {round(float(second), 1)}s:"
            yield Block(tokens)

    def begin(self, video: VideoFacts | None = None) -> GroupedKV:
        return self.prefill_prompt(self.embed_ids(self.prompt_ids(video)))

    def prompt_ids(self, video: VideoFacts | None = None) -> Int[Tensor, " tokens"]:
        return self.encode_text(SYSTEM_PROMPT)

    def tokens_per_step(self, height: int, width: int, num_frames: int) -> int:
        return (self.model.config.sae_grid_size // 2) ** 2

    def one_pass(self, video: Chunk) -> FilledCache:
        """As Qwen2 does it, which is the same as long as every block sees all before it.

        Raises NotImplementedError for a longer video.
        """
        num_blocks = -(-video.num_steps // self.block_groups)
        if num_blocks > self.previous_blocks + 1:
            most = self.frames_per_step * self.block_groups * (self.previous_blocks + 1)
            raise NotImplementedError(f"visual tokens see blocks nearby only, in more than {most} frames")
        return super().one_pass(video)

    def prefill_prompt(self, embeds: Float[Tensor, "tokens hidden"]) -> GroupedKV:
        """KV of text in front of the video."""
        sizes, where = self.geometry, {"device": self.device, "dtype": self.model.dtype}
        empty = torch.empty(sizes.num_layers, sizes.num_kv_heads, 0, sizes.head_dim, **where)
        memory = GroupedMemory(empty, empty, torch.empty(0, dtype=torch.long, device=self.device))
        is_text = torch.ones(len(embeds), dtype=torch.bool, device=self.device)
        return self._prefill_rows(embeds, is_text, torch.zeros_like(is_text, dtype=torch.long), memory)

    def extend(self, memory: GroupedMemory | None, kv: KV) -> GroupedMemory:
        """Raises X2LError for a compressed chunk: blocks are known of whole chunks only."""
        if not isinstance(kv, GroupedKV):
            if memory is not None:
                raise X2LError("compressor.memory: expected full, blocks are known of whole chunks only")
            kv = _grouped(kv, torch.full((kv.num_tokens,), TEXT, device=kv.keys.device))
        groups = kv.groups if memory is None else torch.cat((memory.groups, kv.groups))
        extended = super().extend(memory, kv)
        return GroupedMemory(extended.keys, extended.values, groups, room=extended.room)

    def prefill(self, chunk: Chunk, memory: GroupedMemory) -> GroupedKV:
        """Block by block. Raises X2LError for a chunk that `read` did not make."""
        if chunk.is_text is None:
            raise X2LError(f"chunk {chunk.index}: has no time stamps, expected one made by read()")
        is_text = chunk.is_text.to(self.device)
        groups = memory.next_group + groups_of(is_text)
        made = []
        for rows in _runs(groups // self.block_groups):
            kv = self._prefill_rows(chunk.visual_tokens[rows], is_text[rows], groups[rows], memory)
            memory = self.extend(memory, kv)
            made.append(kv)
        return _grouped(joined(made), torch.cat([kv.groups for kv in made]))

    def _prefill_rows(
        self,
        embeds: Float[Tensor, "tokens hidden"],
        is_text: Bool[Tensor, " tokens"],
        groups: Int[Tensor, " tokens"],
        memory: GroupedMemory,
    ) -> GroupedKV:
        """KV of tokens of one block behind `memory`."""
        first_seen = int(groups[0]) // self.block_groups - self.previous_blocks
        near = (memory.groups == TEXT) | (memory.groups // self.block_groups >= first_seen)
        start = memory.num_tokens
        positions = torch.arange(start, start + len(embeds), device=self.device)
        sparse = SparsePass(memory.keys, memory.values, near, is_text)
        keys, values = self.decoder.prefill(embeds, positions, sparse)
        kv = KV(keys, values, positions[None, None, None])
        return _grouped(kv, groups.masked_fill(is_text, TEXT))

    def encode_question(self, question: Question) -> Int[Tensor, " tokens"]:
        """The template of Video-XL."""
        return self.encode_text(question_prompt(question))


def groups_of(is_text: Bool[Tensor, " tokens"]) -> Int[Tensor, " tokens"]:
    """Group of frames that each token of a chunk belongs to: one starts where text follows visual tokens."""
    starts = is_text[1:] & ~is_text[:-1]
    return torch.cat((starts.new_zeros(1), starts)).cumsum(0)


def _runs(labels: Int[Tensor, " tokens"]) -> Iterator[slice]:
    """Slices of consecutive tokens that have one label."""
    changes = (labels.diff() != 0).nonzero()[:, 0] + 1
    return (slice(*ends) for ends in pairwise([0, *changes.tolist(), len(labels)]))


def _grouped(kv: KV, groups: Int[Tensor, " tokens"]) -> GroupedKV:
    return GroupedKV(kv.keys, kv.values, kv.positions, kv.rotated, kv.counts, groups)
