"""Post-training: the pipeline's own lines, with gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import get_cosine_schedule_with_warmup

from x2l.errors import X2LError
from x2l.pipeline import Pipeline, Read
from x2l.recipe import Recipe, build_pipeline
from x2l.training.levels import Levels, at_levels, check_levels, draw_levels, random_plan
from x2l.training.qa_data import VideoQA
from x2l.training.recomputing import recomputing
from x2l.training.sharding import shard
from x2l.training.token_cache import TokenCache
from x2l.training.trainable import (
    LoRA,
    is_of_vst,
    learned_state,
    make_trainable,
    parts_with_weights,
    sees_change,
    trained_weights,
)
from x2l.types import IndexSpec, Plan, Question, VideoIndex

PlanFrom = Literal["selector", "random"]


class X2LModule(lightning.LightningModule):
    """Embed, encode, score, select and assemble as `Pipeline` does; the loss is on answer tokens only.

    Gradients flow back through the memory of all chunks.

    pipeline: fields of x2l.recipe.Recipe, or its parts already loaded.
    trains: what changes: parts of the network by name, "lora" for adapters (`lora`) beside its weights, or
        "compressor", "oracle", "selector" for weights of their own.
    num_steps: optimiser steps, for the schedule.
    levels: ratios by stage; none: those of the pipeline. plan: "selector": the oracle scores and the selector
        chooses, as when a question is asked; "random": a ratio drawn for every chunk.
    token_cache: a folder that keeps visual tokens for the next time that a video comes.
    recompute: pre-fill chunks once more in the backward pass, instead of keeping what their layers computed.
    lr rises over the first `warmup_share` of the steps and falls along a cosine to 0; weight_decay: AdamW's.
    seed: of ratios and plans that are drawn.

    Raises X2LError naming what cannot be trained, or trained so; while training, if the loss is not a number.

    Source: Video-X^2L (arXiv 2506.21184), Table 4; Video-XL (arXiv 2409.14485), section 3.4.
    """

    def __init__(
        self,
        pipeline: Mapping[str, Any] | Pipeline | None = None,
        trains: Sequence[str] = ("vst",),
        lora: LoRA | None = None,
        num_steps: int = 1000,
        lr: float = 1e-5,
        weight_decay: float = 0.0,
        warmup_share: float = 0.03,
        levels: Sequence[Levels] = (),
        plan: PlanFrom = "selector",
        recompute: bool = True,
        token_cache: str | None = None,
        seed: int = 0,
    ):
        super().__init__()
        is_built = isinstance(pipeline, Pipeline)
        self.pipeline = pipeline if is_built else build_pipeline(Recipe.from_mapping(pipeline or {}).check())
        make_trainable(self.pipeline, trains, lora or LoRA())
        check_levels(levels, num_steps, self.pipeline.selector)
        self.network = self.pipeline.backbone.model
        learned = parts_with_weights(self.pipeline)
        self.parts = nn.ModuleDict({slot: part.own_weights() for slot, part in learned.items()})
        _require_something_to_learn(self, levels)
        self.num_steps, self.warmup_share = num_steps, warmup_share
        self.lr, self.weight_decay = lr, weight_decay
        self.levels, self.plan_from, self.recompute, self.seed = list(levels), plan, recompute, seed
        self._kept_in = token_cache
        if token_cache is not None and sees_change(self.pipeline.backbone):
            raise X2LError("token_cache: expected null where training changes what the language model reads")
        if token_cache is not None and "oracle" in trains:
            raise X2LError("token_cache: expected null where training changes what the oracle prepares")
        # What does not change is not in a checkpoint, so it is not missing from one either.
        self.strict_loading = False

    @cached_property
    def token_cache(self) -> TokenCache | None:
        """The cache of visual tokens, keyed by all that decides them, the precision of this run too."""
        if self._kept_in is None:
            return None
        backbone, oracle = self.pipeline.backbone, self.pipeline.oracle
        precision = f"{backbone.geometry.dtype} {self.trainer.precision}"
        return TokenCache(Path(self._kept_in), f"{backbone.identity} {precision} {oracle.key}")

    @property
    def step(self) -> int:
        """Optimiser steps behind this run."""
        return self.global_step

    def configure_model(self) -> None:
        """Shard the network where the strategy asks for it."""
        if self.device_mesh is not None and self.parts:
            # A part computes with the tensors that it holds, not with those that would take their place.
            raise X2LError(f"strategy: fsdp2 cannot shard weights of {', '.join(self.parts)}, expected ddp")
        if self.device_mesh is not None:
            shard(self, self.device_mesh["data_parallel"], ("training_step", "validation_step"))

    def configure_optimizers(self):
        trained = trained_weights(self).values()
        optimizer = torch.optim.AdamW(trained, self.lr, weight_decay=self.weight_decay)
        warmup = round(self.warmup_share * self.num_steps)
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, self.num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: VideoQA, _) -> dict[str, Any]:
        ratios = draw_levels(self.levels, self.step, self._rng(batch, "levels"))
        answered = self.answer(batch, ratios)
        report = answered.report() | {"loss": self.loss(answered, batch)}
        if not torch.isfinite(report["loss"]):
            raise X2LError(f"step {self.step + 1}: the loss is {report['loss']:.0f}; a lower lr may help")
        if not report["loss"].requires_grad:
            raise X2LError("trains: no answer depends on it, expected weights that the loss reaches")
        self.log_dict(report, batch_size=1)
        return report

    def loss(self, answered: Answered, batch: VideoQA) -> Float[Tensor, ""]:
        """What training lowers: cross entropy of the answers' tokens. Override it for another objective.

        Validation reports the cross entropy, whatever is trained on.
        """
        return answered.cross_entropy

    def on_before_optimizer_step(self, optimizer) -> None:
        """Raise X2LError for a part that would be written as trained, and learns nothing."""
        for slot, weights in self.parts.items():
            learned = trained_weights(weights).values()
            # A compressor may rest for a step, where a video is not compressed.
            if slot != "compressor" and learned and all(weight.grad is None for weight in learned):
                raise X2LError(f"trains: no answer depends on the weights of the {slot}")

    def validation_step(self, batch: VideoQA, _) -> None:
        """Asked as the pipeline would be, whatever ratios and plans are trained on."""
        if not batch.questions:  # nothing could be read
            return
        report = self.answer(batch, None, plan_from="selector").report()
        for name, figure in report.items():
            # Every process looks at videos of other shapes: those figures are its own.
            self.log(f"val_{name}", figure, batch_size=1, sync_dist="/" not in name)

    def answer(
        self, batch: VideoQA, ratios: tuple[int, ...] | None = None, plan_from: PlanFrom | None = None
    ) -> Answered:
        """The network's logits at every token of every answer about one video."""
        pipeline = at_levels(self._training_pipeline, ratios)
        index = self.encode(batch, pipeline)
        rng, answers = self._rng(batch, "plan"), []
        is_random = (plan_from or self.plan_from) == "random"
        for question in batch.questions:
            plan = random_plan(index, rng) if is_random else pipeline.plan(question, index)
            answers.append(self.answer_logits(pipeline, index, plan, question))
        logits, labels = zip(*answers, strict=True)
        return Answered(logits, labels, index)

    def encode(self, batch: VideoQA, pipeline: Pipeline) -> VideoIndex:
        """An index of the video, on the device and with gradients."""
        backbone = pipeline.backbone
        prefix = backbone.begin(batch.facts)
        read = self._read(batch, pipeline, prefix.num_tokens)
        chunks = tuple(pipeline.encode(prefix, read))
        return VideoIndex(prefix, chunks, IndexSpec("training", backbone.geometry, {}, batch.fingerprint))

    def _read(self, batch: VideoQA, pipeline: Pipeline, position: int) -> Iterable[Read]:
        """The video's chunks, from the cache of tokens where there is one."""
        if self.token_cache is None:
            return pipeline.read(batch.clips, position)
        path = self.token_cache.path(batch.fingerprint, batch.chunk_frames)
        if batch.clips:
            self.token_cache.save(path, list(pipeline.read(batch.clips, position)))
        return self.token_cache.load(path, pipeline.backbone.device)

    def answer_logits(
        self, pipeline: Pipeline, index: VideoIndex, plan: Plan, question: Question
    ) -> tuple[Float[Tensor, "answer vocab"], Int[Tensor, " answer"]]:
        """fp32 logits at the tokens of a question's answer, behind the planned cache, and those tokens."""
        backbone = pipeline.backbone
        if question.answer is None:
            raise X2LError(f"question {question.id or question.text!r}: has no answer to learn")
        prompt, answer = backbone.encode_question(question), backbone.encode_answer(question.answer)
        cache = pipeline.cache(index, plan, question)
        # The last token is a label only: nothing is read behind it.
        logits = backbone.logits(torch.cat((prompt, answer[:-1])), cache)
        return logits[len(prompt) - 1 :], answer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only what nothing else keeps."""
        learned = set(learned_state(self))
        kept = {name: tensor for name, tensor in checkpoint["state_dict"].items() if name in learned}
        checkpoint["state_dict"] = kept
        checkpoint["x2l_step"] = self.step

    @cached_property
    def _training_pipeline(self) -> Pipeline:
        if not self.recompute:
            return self.pipeline
        return replace(self.pipeline, backbone=recomputing(self.pipeline.backbone))

    def _rng(self, batch: VideoQA, stream: str) -> np.random.Generator:
        """Depends on which video of the run this is, not on the process that it is given to."""
        return np.random.default_rng([self.seed, batch.number, *stream.encode()])


def _require_something_to_learn(module: X2LModule, levels: Sequence[Levels]) -> None:
    """Videos that are not compressed teach VSTs and compressors nothing: the loss would have no gradient."""
    pipeline, trained = module.pipeline, trained_weights(module.network)
    parts = [slot for slot, weights in module.parts.items() if trained_weights(weights)]
    if parts not in ([], ["compressor"]) or not all(is_of_vst(name, pipeline.backbone) for name in trained):
        return
    is_compressed = pipeline.ratios != (1,) and not any("1" in stage.ratios for stage in levels)
    if parts and not is_compressed:
        raise X2LError("trains: a compressor only, expected no video at ratio 1")
    if not parts and not (is_compressed and "vst" in pipeline.compressor.requires):
        raise X2LError('trains: VSTs only, expected compressor "vst" and no video at ratio 1')


@dataclass(frozen=True)
class Answered:
    """Logits and labels of each answer about one video."""

    logits: tuple[Float[Tensor, "_answer vocab"], ...]
    labels: tuple[Int[Tensor, " _answer"], ...]
    index: VideoIndex

    def report(self) -> dict[str, Any]:
        """The loss, and the share of answers that are right token by token, also by shape of the video."""
        pairs = zip(self.logits, self.labels, strict=True)
        accuracy = float(np.mean([bool((logits.argmax(-1) == labels).all()) for logits, labels in pairs]))
        return {"loss": self.cross_entropy, "accuracy": accuracy, f"accuracy/{self.where}": accuracy}

    @cached_property
    def cross_entropy(self) -> Float[Tensor, ""]:
        """Mean over the tokens of all answers."""
        return cross_entropy(torch.cat(self.logits), torch.cat(self.labels))

    @property
    def where(self) -> str:
        """Chunks, frames per chunk and ratios: averages over lengths hide what is not learned yet."""
        chunks, ratios = self.index.chunks, "/".join(map(str, self.index.ratios))
        return f"{len(chunks)}x{chunks[0].num_frames}@{ratios}"
