"""An answer on two levels, 2x and 32x, as Video-X^2L gives it: is it one, and what does it cost?"""

from __future__ import annotations

import torch

from x2l.cache import FilledCache
from x2l.clock import AtFirstToken, Clock
from x2l.errors import X2LError
from x2l.pipeline import Pipeline
from x2l.types import Answer, VideoIndex
from x2l.verification.estimate import estimated, weight_bytes
from x2l.verification.figures import figures_of
from x2l.verification.identity import WRITING
from x2l.verification.subject import Subject

RATIOS = (2, 32)
_ANSWER = 16
"""Most tokens of the answer."""


@torch.no_grad()
def levels(subject: Subject) -> str:
    """One chunk at 2x and the others at 32x: finite logits, an answer, a cache as planned. Notes figures."""
    backbone = subject.backbone
    compressor = "vst" if "vst" in backbone.provides else "mean_pool"
    pipeline = subject.pipeline(compressor, RATIOS, subject.chunk_frames)
    on_gpu = backbone.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(backbone.device)
    index = pipeline.index(subject.video, subject.progress)
    answer = pipeline.ask(index, subject.question, max_new_tokens=_ANSWER)
    peak_bytes = torch.cuda.max_memory_allocated(backbone.device) if on_gpu else None
    cache = pipeline.cache(index, answer.plan, subject.question)
    _require_planned(cache, index, answer, pipeline)
    if not backbone.logits(subject.ids, cache).isfinite().all():
        raise X2LError("the logits of the question are not finite")
    if not answer.text:
        raise X2LError("the model ends its answer before the first word")
    cost = weight_bytes(backbone), peak_bytes, _tokens_per_s(pipeline, index, answer, subject)
    subject.figures += figures_of(index, answer, estimated(subject, pipeline, answer.plan), *cost)
    counts = f"{answer.kv_tokens:,} of {answer.kv_tokens_full:,} tokens"
    return f"{compressor}: {counts} ({answer.cache_reduction:.0%} of the cache gone), answer {answer.text!r}"


def _require_planned(cache: FilledCache, index: VideoIndex, answer: Answer, pipeline: Pipeline) -> None:
    closing = pipeline.backbone.finish(FilledCache()).get_seq_length()
    planned = index.planned_tokens(answer.plan)
    expected = index.prefix.num_tokens + sum(planned) + closing
    if cache.get_seq_length() != expected or answer.kv_tokens_per_chunk != planned:
        raise X2LError(f"the cache holds {cache.get_seq_length():,} tokens, planned are {expected:,}")
    if answer.cache_reduction <= 0:
        raise X2LError(f"the cache holds {answer.kv_tokens:,} tokens of {answer.kv_tokens_full:,}")


def _tokens_per_s(pipeline: Pipeline, index: VideoIndex, answer: Answer, subject: Subject) -> float:
    """Tokens behind the first one."""
    cache, clock = pipeline.cache(index, answer.plan, subject.question), Clock(subject.backbone.device)
    with clock.span("first_token"):
        streamer = AtFirstToken(clock, None)
        written = subject.backbone.generate_ids(subject.ids, cache, streamer=streamer, **WRITING)
    return (len(written) - 1) / clock.seconds["later_tokens"]
