"""Likeness of the question's words and the visual tokens in the language model's input space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from x2l.interfaces import Backbone, Oracle
from x2l.rounding import in_full_precision
from x2l.types import Chunk, Question, VideoIndex


@dataclass
class AttentionScore(Oracle):
    """Mean product of question embeddings and visual tokens, pooled over a chunk's frames.

    similarity: "dot" takes the embeddings as they are, "cosine" their directions.
    pool: how the scores of a chunk's frames become one.

    A product is linear in both sides, so the mean over all pairs is the product of the means: the mean
    visual token of each frame is all that an index has to store.

    Source: Video-X^2L (arXiv 2506.21184), section 4.6 and Table 3, row "Attention Score".
    Differs: the paper takes the mean over frames; the released code, and so the default here, the max.
    """

    not_prepared = frozenset({"pool"})

    similarity: Literal["dot", "cosine"] = "dot"
    pool: Literal["max", "mean"] = "max"

    def prepare(self, chunk: Chunk, backbone: Backbone) -> dict[str, Tensor]:
        return {"frames": self._compared(chunk.tokens_by_step()).mean(dim=1)}

    def score(self, question: Question, index: VideoIndex, backbone: Backbone) -> Float[Tensor, " chunks"]:
        query = self._compared(backbone.embed_text(question.text)).mean(dim=0).cpu()
        with in_full_precision("cpu"):
            frame_scores = [features["frames"].cpu() @ query for features in self.features(index)]
        return torch.stack([getattr(scores, self.pool)() for scores in frame_scores])

    def _compared(self, embeddings: Float[Tensor, "*shape hidden"]) -> Float[Tensor, "*shape hidden"]:
        return embeddings.float() if self.similarity == "dot" else normalize(embeddings.float(), dim=-1)
