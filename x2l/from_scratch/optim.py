"""Muon for the layers' matrices, AdamW for everything else.

Logged 2026-11 (prototype): AdamW alone learned detail questions far more slowly than this pair.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def muon_and_adamw(
    modules: Iterable[nn.Module], muon_lr: float, adamw_lr: float, weight_decay: float = 0.0
) -> list[torch.optim.Optimizer]:
    """Optimizers over the trainable parameters of `modules`.

    Muon takes the two-dimensional weights inside transformer layers; embeddings, heads, norms and
    biases go to AdamW.
    """
    named = [item for module in modules for item in module.named_parameters() if item[1].requires_grad]
    is_matrix = [p.ndim == 2 and ".layers." in f".{name}" for name, p in named]
    matrices = [p for (_, p), chosen in zip(named, is_matrix, strict=True) if chosen]
    others = [p for (_, p), chosen in zip(named, is_matrix, strict=True) if not chosen]
    return [
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=weight_decay, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=adamw_lr, weight_decay=weight_decay, betas=(0.9, 0.98)),
    ]


def warmup_then_linear_decay(
    step: int, total: int, warmup: int, flat_share: float = 0.5, final: float = 0.02
) -> float:
    """Factor on the learning rate at a step: linear up, flat, linear down to `final`.

    It falls from `flat_share` of all steps on.
    """
    if step < warmup:
        return (step + 1) / warmup
    flat_until = int(total * flat_share)
    if step < flat_until:
        return 1.0
    return max(final, 1 - (1 - final) * (step - flat_until) / max(1, total - flat_until))
