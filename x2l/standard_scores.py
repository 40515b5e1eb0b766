"""Scores of a question's chunks, made comparable between questions and oracles."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def standard_scores(scores: Float[Tensor, " chunks"]) -> Float[Tensor, " chunks"]:
    """How many standard deviations each lies above the mean of the video's chunks; 0 where all are equal."""
    deviation = scores - scores.mean()
    spread = deviation.square().mean().sqrt()
    return deviation / spread if spread > 0 else torch.zeros_like(scores)
