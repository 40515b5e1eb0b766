"""Many short questions about one video in a single forward call.

Each question sees the whole cache and itself, never another question, at the positions that it would
have alone: the logits equal those of separate calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

IGNORED = -100


@dataclass(frozen=True)
class Packed:
    """Questions of a batch of videos behind one another, padded to the longest row.

    labels hold the next token where it belongs to an answer, else IGNORED. `segments` number the
    questions of a row from 0; padding has a segment of its own, -1.
    """

    ids: Int[Tensor, "batch tokens"]
    positions: Int[Tensor, "batch tokens"]
    segments: Int[Tensor, "batch tokens"]
    labels: Int[Tensor, "batch tokens"]

    def mask(
        self, num_cached: int, is_read_last: bool = False
    ) -> Bool[Tensor, "batch 1 tokens cached_and_tokens"]:
        """True where a token may look: the cache, and earlier tokens of its own question.

        is_read_last: only the tokens that write an answer look at the cache, behind the whole question.
        """
        same = self.segments[:, :, None] == self.segments[:, None, :]
        causal = torch.ones(same.shape[-2:], dtype=torch.bool, device=same.device).tril()
        looks = self.labels != IGNORED if is_read_last else torch.ones_like(self.labels, dtype=torch.bool)
        cached = looks[:, :, None].expand(-1, -1, num_cached)
        return torch.cat((cached, same & causal), dim=-1)[:, None]

    def to(self, device: torch.device) -> Packed:
        return Packed(*(t.to(device) for t in (self.ids, self.positions, self.segments, self.labels)))


Pair = tuple[Int[Tensor, " _"], Int[Tensor, " _"]]
"""Ids of a prompt and of its answer."""


def pack(rows: Sequence[Sequence[Pair]]) -> Packed:
    """One row per video, each a sequence of one or more (prompt ids, answer ids)."""
    packed = [_pack_row(row) for row in rows]
    fillers = {"ids": 0, "positions": 0, "segments": -1, "labels": IGNORED}
    return Packed(
        **{
            name: torch.nn.utils.rnn.pad_sequence([row[name] for row in packed], True, filler)
            for name, filler in fillers.items()
        }
    )


def _pack_row(row: Sequence[Pair]) -> dict[str, Int[Tensor, " tokens"]]:
    columns = [_question(number, prompt, answer) for number, (prompt, answer) in enumerate(row)]
    return {name: torch.cat([column[name] for column in columns]) for name in columns[0]}


def _question(
    number: int, prompt: Int[Tensor, " prompt"], answer: Int[Tensor, " answer"]
) -> dict[str, Int[Tensor, " tokens"]]:
    """The last answer token is a label only: nothing is read behind it."""
    ids = torch.cat((prompt, answer[:-1]))
    labels = torch.cat((torch.full((len(prompt) - 1,), IGNORED), answer))
    segments = torch.full_like(ids, number)
    return {"ids": ids, "positions": torch.arange(len(ids)), "segments": segments, "labels": labels}
