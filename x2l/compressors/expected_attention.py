"""What future questions would attend to, if they asked as the chunk's own tokens do."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from x2l.engine.chunkwise import ScorerCompressor
from x2l.types import KV


@dataclass
class ExpectedAttention(ScorerCompressor):
    """Keeps the tokens with the largest attention times norm of the value that a normal query expects.

    [layers, kv_heads, tokens, head_dim] become [layers, kv_heads, tokens // ratio, head_dim], one token
    at least. Queries are taken to be normal with the mean m and covariance C of the chunk's own, those of
    heads that share keys together. A token of key k and value v is worth |v| E[exp(q k / sqrt(d))] = |v|
    exp(m k / sqrt(d) + k C k / 2d). Counts: equal shares, see ScorerCompressor.

    Source: Expected Attention (arXiv 2510.00636), section 3.
    Differs: queries and keys are compared before rotation, because how far a question will stand from a
    token is not known (there, rotations are averaged over the next positions); no token is exempt.
    """

    observes = frozenset({"queries"})
    requires = frozenset({"unrotated_keys"})

    def score(self, kv: KV) -> Float[Tensor, "*batch layers kv_heads tokens"]:
        keys, dim = kv.keys.float(), kv.keys.shape[-1]
        queries = kv.queries.float().unflatten(-3, (keys.shape[-3], -1)).flatten(-3, -2)
        mean = queries.mean(dim=-2, keepdim=True)
        spread = queries - mean
        covariance = spread.transpose(-1, -2) @ spread / queries.shape[-2]
        expected = (keys * mean).sum(dim=-1) / dim**0.5 + (keys @ covariance * keys).sum(dim=-1) / (2 * dim)
        return expected + kv.values.float().norm(dim=-1).log()
