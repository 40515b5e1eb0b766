"""The identity law: without compression, x2l is the model itself. Its logits, and the tokens it writes."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from x2l.errors import X2LError
from x2l.verification.checks import NotApplicable
from x2l.verification.subject import Subject

TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 8e-2}
"""How far logits may be off, as a share of the largest: what sums in another order come to in deep models."""
WRITING: dict[str, Any] = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
"""Options of generate(): twelve tokens, whatever they are."""


@torch.no_grad()
def chunks(subject: Subject) -> str:
    """Several chunks are the whole video in one."""
    indices = subject.uncompressed(subject.video.num_frames), subject.in_chunks
    expected, logits = (subject.backbone.logits(subject.ids, subject.cache(index)) for index in indices)
    return f"in chunks of {subject.chunk_frames} frames, {same_logits(logits, expected, subject)}"


@torch.no_grad()
def decoder(subject: Subject) -> str:
    """Chunks are the decoder's own forward, and its own generate(), on the same visual tokens."""
    backbone, ids = subject.backbone, subject.ids
    try:
        logits = backbone.logits(ids, backbone.one_pass(subject.chunk))
    except NotImplementedError as error:
        raise NotApplicable(str(error)) from error
    written = backbone.generate_ids(ids, backbone.one_pass(subject.chunk), **WRITING)
    return same_model(logits, written, subject)


def same_model(logits: Float[Tensor, "tokens vocab"], written: Int[Tensor, " new"], subject: Subject) -> str:
    """Compares what a model says of the question, and writes, with x2l in chunks without compression.

    Raises X2LError if either differs.
    """
    backbone, ids = subject.backbone, subject.ids
    found = same_logits(backbone.logits(ids, subject.cache(subject.in_chunks)), logits, subject)
    said = backbone.generate_ids(ids, subject.cache(subject.in_chunks), **WRITING)
    return f"{found}; {_same_tokens(said, written, subject)}"


def same_logits(
    logits: Float[Tensor, "tokens vocab"], expected: Float[Tensor, "tokens vocab"], subject: Subject
) -> str:
    """Raises X2LError if logits differ by more than the precision explains."""
    allowed = TOLERANCE[subject.backbone.geometry.dtype]
    off = float((logits - expected).abs().max() / expected.abs().max())
    if not off <= allowed:  # nor for NaN
        raise X2LError(f"logits are off by {off:.1e} of the largest, expected at most {allowed:.0e}")
    return f"logits within {off:.1e} of the largest ({allowed:.0e} allowed)"


def _same_tokens(said: Int[Tensor, " new"], written: Int[Tensor, " new"], subject: Subject) -> str:
    """Raises X2LError if tokens differ, unless the model finds the first two that do equally likely."""
    if said.equal(written):
        return f"the same {len(said)} tokens written"
    first = int((said != written).int().argmax())
    ids = torch.cat((subject.ids, said[:first]))
    logits = subject.backbone.logits(ids, subject.cache(subject.in_chunks))[-1]
    gap = float((logits[said[first]] - logits[written[first]]).abs() / logits.abs().max())
    if gap > TOLERANCE[subject.backbone.geometry.dtype]:
        raise X2LError(f"another token {first + 1} is written, and the two are {gap:.1e} apart")
    return f"the same {first} tokens written, the next two are a tie ({gap:.1e} apart)"
