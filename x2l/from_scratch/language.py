"""Second stage: the language model and its VSTs learn to answer behind compressed memory."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, rms_norm

from x2l.backbones.video_xl import VideoXL
from x2l.cache import assemble
from x2l.compressors.identity import Identity
from x2l.compressors.vst import VST
from x2l.engine.hooks import outputs_of
from x2l.from_scratch.curriculum import Curriculum, Shape
from x2l.from_scratch.module import TrainingModule
from x2l.from_scratch.needle_batches import NeedleBatch
from x2l.from_scratch.optim import muon_and_adamw
from x2l.from_scratch.packing import IGNORED
from x2l.networks.time_code import time_code
from x2l.types import KV, Chunk, IndexSpec, Plan, VideoIndex

TIME_SCALE = 0.1
"""Logits of a time per product of its code and a hidden state of size 1 per dimension."""


class LanguageModule(TrainingModule):
    """Encode, assemble and answer with the functions of inference.

    The loss is on answer tokens, plus `retrieval_weight` times `retrieval_loss` and the stage's `time_weight`
    times `time_loss`.
    """

    def __init__(
        self,
        backbone: VideoXL,
        curriculum: Curriculum,
        muon_lr: float,
        adamw_lr: float,
        retrieval_weight: float = 0.0,
        flat_share: float = 0.5,
    ):
        super().__init__(curriculum.num_steps, muon_lr, adamw_lr, flat_share)
        self.retrieval_weight = retrieval_weight
        self.backbone, self.curriculum = backbone, curriculum
        self.network = backbone.model
        self.network.model.vision_tower.requires_grad_(False)
        self.network.model.mm_projector.requires_grad_(False)

    def configure_optimizers(self):
        return muon_and_adamw([self.network], *self.learning_rates)

    def training_step(self, batch: NeedleBatch, _) -> dict[str, Any]:
        # The middle layer: the words of a name are bound before it, times are compared behind it.
        layers = self.network.model.layers
        with outputs_of([layers[len(layers) // 2]]) as (outputs,):
            logits, labels, kinds = self.answer_logits(batch)
        end = self.backbone.tokenizer.eos_token_id
        losses = {
            "loss": cross_entropy(logits, labels),
            "retrieval_loss": self.retrieval_loss(batch),
            "time_loss": self.time_loss(batch, outputs[-1]),
        }
        stage = self.curriculum.stage(self.step)
        weights = {"loss": 1.0, "retrieval_loss": self.retrieval_weight, "time_loss": stage.time_weight}
        total = sum(weight * losses[name] for name, weight in weights.items())
        self.learn(total, stage.lr, max_grad_norm=1.0)
        return {name: loss.detach() for name, loss in losses.items()} | accuracies(
            logits, labels, kinds, batch.shape, end
        )

    def answer_logits(self, batch: NeedleBatch) -> tuple[Float[Tensor, "answers vocab"], Tensor, list[str]]:
        """Logits and labels at every answer token, with the kind of question each belongs to."""
        index = encode_batch(self.backbone, batch.visual_tokens, batch.shape)
        cache = assemble(index, Plan(batch.shape.plan), self.backbone)
        num_cached, packed = cache.get_seq_length(), batch.packed
        output = self.network.model(
            input_ids=packed.ids,
            past_key_values=cache,
            attention_mask=packed.mask(num_cached, self.curriculum.stage(self.step).is_read_last),
            position_ids=num_cached + packed.positions,
            use_cache=True,
        )
        answers = packed.labels != IGNORED
        kinds = [batch.kinds[row][segment] for row, segment in _segments(packed.segments, answers)]
        return self.network.lm_head(output.last_hidden_state[answers]).float(), packed.labels[answers], kinds

    def retrieval_loss(self, batch: NeedleBatch) -> Tensor:
        """How well the attention oracle's score finds the chunk that holds the answer.

        Aligns the words' embeddings with the visual tokens, as image-text pre-training does for large
        models. The score is that of x2l.oracles.attention (dot, max), for all questions at once.
        """
        if not batch.retrieval or batch.shape.num_chunks == 1:
            return batch.visual_tokens.new_zeros(())
        videos, texts, gold = zip(*batch.retrieval, strict=True)
        words = torch.stack([self.backbone.embed_ids(ids).mean(dim=0) for ids in texts])
        scores = retrieval_scores(frame_means(batch)[list(videos)], words)
        return cross_entropy(scores, torch.tensor(gold, device=scores.device))

    def time_loss(self, batch: NeedleBatch, hidden: Float[Tensor, "videos words hidden"]) -> Tensor:
        """How well the words that name a scene know when it was seen, after the first layers.

        The class of a chunk is the mean of the time codes on its visual tokens. Logged 2026-11-21: with
        words that see the video from the start and without this loss "before" stayed at .50 for 2,750
        steps, however often it was asked; 750 steps with it: .80.
        """
        named = batch.named_chunks != IGNORED
        if not named.any():
            return hidden.new_zeros(())
        times_s = self.curriculum.times_s(self.step, batch.shape)
        codes = time_code(torch.from_numpy(times_s).to(hidden.device), hidden.shape[-1])
        codes = codes.unflatten(0, (batch.shape.num_chunks, -1)).mean(dim=1)
        with torch.autocast(hidden.device.type, enabled=False):
            likeness = rms_norm(hidden[named].float(), hidden.shape[-1:]) @ codes.T
        return cross_entropy(TIME_SCALE * likeness, batch.named_chunks[named])

    def transfer_batch_to_device(self, batch: NeedleBatch, device: torch.device, _) -> NeedleBatch:
        return batch.to(device)


def frame_means(batch: NeedleBatch) -> Float[Tensor, "videos chunks frames hidden"]:
    """The mean visual token of every frame: what the attention oracle stores in an index."""
    return rearrange(
        batch.visual_tokens,
        "videos (chunks frames tokens) hidden -> videos chunks frames tokens hidden",
        chunks=batch.shape.num_chunks,
        frames=batch.shape.frames_per_chunk,
    ).mean(dim=3)


def retrieval_scores(
    frames: Float[Tensor, "asked chunks frames hidden"], words: Float[Tensor, "asked hidden"]
) -> Float[Tensor, "asked chunks"]:
    """The attention oracle's score (dot, max) of every chunk for the mean word of each question."""
    # Chunks differ by little beside what they share, and bf16 would round that away.
    with torch.autocast(words.device.type, enabled=False):
        scores = einsum(
            frames.float(), words.float(), "asked chunks frames hidden, asked hidden -> asked chunks frames"
        )
    return scores.amax(dim=-1)


def encode_batch(
    backbone: VideoXL, visual_tokens: Float[Tensor, "videos tokens hidden"], shape: Shape
) -> VideoIndex:
    """An index of a batch of videos, through the compressor's own encode."""
    prefix = backbone.begin()
    compressor = Identity() if shape.ratios == (1,) else VST(edge_ratio=shape.edge_ratio)
    chunks = [
        Chunk(i, np.arange(shape.frames_per_chunk, dtype=float), tokens)
        for i, tokens in enumerate(visual_tokens.chunk(shape.num_chunks, dim=1))
    ]
    encoded = tuple(compressor.encode(backbone, prefix, chunks, shape.ratios))
    return VideoIndex(
        batched(prefix, len(visual_tokens)), encoded, IndexSpec("training", backbone.geometry, {}, {})
    )


def batched(kv: KV, num_videos: int) -> KV:
    """The same KV for every video of a batch."""
    expand = (num_videos, *kv.keys.shape)
    return KV(kv.keys.expand(expand), kv.values.expand(expand), kv.positions, kv.rotated)


def accuracies(
    logits: Tensor, labels: Tensor, kinds: list[str], shape: Shape, end_id: int
) -> dict[str, float]:
    """Share of right answers by kind and shape: averages over lengths hide what is not learned yet.

    Labels and kinds are those of every answer token; each answer ends with the token `end_id`.
    """
    ends = (labels == end_id).nonzero()[:, 0].cpu()
    answers = (logits.argmax(-1) == labels).cpu().tensor_split(ends + 1)
    size = f"{_at_least(shape.num_chunks)}x{_at_least(shape.frames_per_chunk)}"
    where = f"{size}@{'/'.join(map(str, shape.ratios))}"
    by_kind = defaultdict(list)
    for end, answer in zip(ends.tolist(), answers, strict=False):
        by_kind[kinds[end]].append(bool(answer.all()))
    return {f"{kind}/{where}": float(np.mean(values)) for kind, values in by_kind.items()}


def _at_least(number: int) -> str:
    """The power of two at or below a number: one name for similar sizes."""
    return f"{1 << (number.bit_length() - 1)}+"


def _segments(segments: Tensor, chosen: Tensor) -> list[tuple[int, int]]:
    rows, columns = chosen.nonzero(as_tuple=True)
    return list(zip(rows.tolist(), segments[rows, columns].tolist(), strict=True))
