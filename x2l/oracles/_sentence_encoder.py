"""Stock text encoders that embed a sentence: the mean over its tokens, or its first token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from x2l.oracles._checkpoint import frozen, loaded_from, stock_network, stock_tokenizer
from x2l.rounding import in_full_precision
from x2l.storage.files import read_json
from x2l.types import X2LError

_POOLING = Path("1_Pooling") / "config.json"
"""Where Sentence Transformers keeps how tokens become one embedding."""


@dataclass(frozen=True)
class SentenceEncoder:
    """A text encoder; embeddings are of length 1."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    takes_first: bool

    @torch.no_grad()
    def embed(self, text: str) -> Float[Tensor, " dim"]:
        """Embedding of a text, of as many tokens as the model reads."""
        limit = min(self.network.config.max_position_embeddings, self.tokenizer.model_max_length)
        inputs = self.tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        with in_full_precision(self.network.device.type):
            (tokens,) = self.network(**inputs.to(self.network.device)).last_hidden_state
        return normalize(tokens[0] if self.takes_first else tokens.mean(dim=0), dim=-1)


@cache
def load_encoder(model: str, device: str) -> SentenceEncoder:
    """A text encoder from a checkpoint folder or the hub: safetensors only, no code, in fp32.

    Raises X2LError naming the model and what is wrong with it.
    """
    with loaded_from(model, "oracle.encoder") as folder:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        # The pooler is none of Sentence Transformers' and comes and goes.
        network = stock_network(folder, config, tolerated=("pooler.",))
        encoder = SentenceEncoder(network, stock_tokenizer(folder, config), _takes_first(folder))
    frozen(network, device)
    return encoder


def _takes_first(folder: Path) -> bool:
    """Whether the first token is the embedding; the mean of all where the folder does not say."""
    if not (folder / _POOLING).is_file():
        return False
    stored = read_json(folder / _POOLING)
    modes = {name for name, value in stored.items() if name.startswith("pooling_mode_") and value}
    if modes not in ({"pooling_mode_mean_tokens"}, {"pooling_mode_cls_token"}):
        raise X2LError(f"{_POOLING}: expected the mean of the tokens or the first one, got {sorted(modes)}")
    return modes == {"pooling_mode_cls_token"}
