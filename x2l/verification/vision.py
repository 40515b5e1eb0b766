"""Whether a checkpoint sees: a clip becomes as many finite visual tokens as its settings say."""

from __future__ import annotations

import torch

from x2l.errors import X2LError
from x2l.verification.subject import Subject


@torch.no_grad()
def vision(subject: Subject) -> str:
    backbone, clip = subject.backbone, subject.clip
    tokens = backbone.embed(clip.frames, clip.times_s)
    if not tokens.isfinite().all():
        odd = int((~tokens.isfinite()).any(dim=-1).sum())
        raise X2LError(f"{odd} of {len(tokens)} visual tokens are not finite")
    found = f"{len(tokens):,} finite visual tokens of {len(clip.frames)} frames"
    each = backbone.tokens_per_step(*clip.frames.shape[1:3], len(clip.frames))
    if each is None:
        return f"{found}; the backbone does not say how many to expect"
    expected = each * -(-len(clip.frames) // backbone.frames_per_step)
    if len(tokens) != expected:
        raise X2LError(f"{found}, expected {expected:,}: {each} for every {backbone.frames_per_step}")
    return f"{found}, as many as are estimated"
