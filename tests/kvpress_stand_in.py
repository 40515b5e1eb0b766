"""In place of kvpress, which cannot be installed beside this transformers: presses with its signature."""

from dataclasses import dataclass

import torch

from x2l.rotary import rotate


@dataclass
class Press:
    compression_ratio: float = 0.0


@dataclass
class KnormPress(Press):
    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        return -keys.norm(dim=-1)


@dataclass
class LastQueryPress(Press):
    """Logits of the last token, from all that a press is given; every head that shares keys alike."""

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        cos, sin = (part[:, None] for part in kwargs["position_embeddings"])
        queries = module.q_proj(hidden_states).unflatten(-1, (-1, module.head_dim)).transpose(1, 2)
        last = rotate(queries, cos, sin)[..., -1:, :]
        of_first_head = last.unflatten(1, (keys.shape[1], -1))[:, :, 0]
        return (of_first_head @ keys.transpose(-1, -2))[..., 0, :] * module.scaling


@dataclass
class RatioPress(Press):
    """Keeps the last of the share that it is told."""

    shift: int = 0

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        assert keys.shape[2] > self.shift, "too few\ntokens"
        kept = round(keys.shape[2] * (1 - self.compression_ratio))
        rows = torch.arange(keys.shape[2]) - self.shift
        return ((rows >= 0) & (rows < kept)).float().expand(keys.shape[:3])


class PruningPress(Press):
    """Scores nothing."""
