"""The language model's own attention to the coarse KVs when it is about to answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.cache import assemble
from x2l.interfaces import Backbone, Oracle
from x2l.types import Plan, Question, VideoIndex


@dataclass
class LLMAttention(Oracle):
    """Attention of the last question token to each chunk's H-KVs, mean over layers and heads.

    pool: over the H-KVs of a chunk. "mean" (default) compares chunks of unequal size: the first and the
        last chunk are kept at the edge ratio in every pass, so they hold many more H-KVs than the others,
        and a sum would rank them first for their size alone.

    Stores nothing: the score is one forward pass of the question over the H-KVs.

    Source: Video-X^2L (arXiv 2506.21184), section 4.6, read as attention inside the language model.
    Differs: the paper's attention score uses no layer of the language model (see `attention`).
    """

    pool: Literal["mean", "sum"] = "mean"

    requires = frozenset({"attention"})

    def score(self, question: Question, index: VideoIndex, backbone: Backbone) -> Float[Tensor, " chunks"]:
        coarse = max(index.ratios)
        cache = assemble(index, Plan((coarse,) * len(index.chunks)), backbone)
        # As for every oracle, what was said before does not count.
        ids = backbone.encode_question(replace(question, history=()))
        attention = backbone.attention(ids, cache)
        per_token = attention.float().mean(dim=(0, 1)).cpu()[index.prefix.num_tokens :]
        sizes = [chunk.levels[coarse].num_tokens for chunk in index.chunks]
        # Behind the chunks is what the model reads after any video.
        per_chunk = per_token[: sum(sizes)].split(sizes)
        return torch.stack([getattr(weights, self.pool)() for weights in per_chunk])
