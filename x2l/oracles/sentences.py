"""A question of several sentences, asked sentence by sentence and as one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Backbone, Oracle, scores_of
from x2l.oracles.attention import AttentionScore
from x2l.standard_scores import standard_scores
from x2l.types import Question, VideoIndex

_END = re.compile(r"(?<=[.?!。？！])\s+|(?<=[。？！])")


@dataclass
class Sentences(Oracle):
    """The highest standard score that a chunk gets from another oracle for the question or a sentence of it.

    A question that asks for two things at once resembles neither of their chunks as much as its parts do.
    Where two sentences only together name what is asked ("Look at the red frame. Which digit does the star
    show?"), the question as one does better. Of a question of one sentence the order of the chunks is that
    of `inner`. What `inner` abstains of does not count; it abstains where `inner` does of all.

    whole: the question as one is scored besides its sentences.

    Source: none; queries of several hops are taken apart likewise in retrieval.
    Differs: the paper (Video-X^2L, section 3.4) scores the question as one.
    """

    inner: Oracle = field(default_factory=AttentionScore)
    whole: bool = True

    not_prepared = frozenset({"whole"})

    def score(
        self, question: Question, index: VideoIndex, backbone: Backbone
    ) -> Float[Tensor, " chunks"] | None:
        texts = sentences(question.text)
        if self.whole and len(texts) > 1:
            texts.append(question.text)
        asked = [replace(question, text=text) for text in texts]
        scores = [scores_of(self.inner, each, index, backbone) for each in asked]
        standard = [standard_scores(each) for each in scores if each is not None]
        return torch.stack(standard).amax(dim=0) if standard else None


def sentences(text: str) -> list[str]:
    """The sentences of a text, which end with a full stop, a question mark or an exclamation mark."""
    return [part for part in _END.split(text.strip()) if part] or [text]
