"""FLOPs and bytes of a decoder and an image tower, from their sizes alone.

Source: Video-XL (arXiv 2409.14485), appendix, equations 7 to 10; to the letter in `paper_prefill_flops`.
Differs: the others count what x2l runs: no lm_head in a pre-fill, a last layer that stops at keys and values,
no softmax, and attention by the keys that each token is multiplied with.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class DecoderSizes:
    """A decoder with gated MLPs and grouped-query attention."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool = False
    """Whether the head is the embedding table."""

    @property
    def kv_projection(self) -> int:
        """Weights of a layer's key and value projections."""
        return 2 * self.hidden * self.kv_heads * self.head_dim

    @property
    def layer(self) -> int:
        """Weights of the matrices of a layer."""
        attention = 2 * self.hidden * self.heads * self.head_dim + self.kv_projection
        return attention + 3 * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """Weights of all matrices; norms and biases are a ten-thousandth."""
        return self.layers * self.layer + self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def read_per_token(self) -> int:
        """Weights that a new token reads: every layer's and the head's, one row of the embedding table."""
        return self.layers * self.layer + self.hidden * self.vocab

    def attention_flops(self, queries: int, keys: int) -> int:
        """FLOPs of one layer's attention: scores and weighted values, each query with every key."""
        return 4 * self.heads * self.head_dim * queries * keys

    def prefill_flops(self, tokens: int, cached: int, kept: int) -> int:
        """One chunk of `tokens` rows behind `cached` tokens, of which `kept` rows are stored."""
        full_layers = (self.layers - 1) * self.layer_flops(tokens, cached)
        return full_layers + 2 * kept * self.kv_projection

    def layer_flops(self, tokens: int, cached: int) -> int:
        """FLOPs of one layer: `tokens` rows behind `cached` tokens."""
        return 2 * tokens * self.layer + self.attention_flops(tokens, cached + tokens)

    def answer_flops(self, tokens: int, cached: int) -> int:
        """Text behind a cache up to the first new token: all layers, and the head once."""
        return self.layers * self.layer_flops(tokens, cached) + 2 * self.hidden * self.vocab


@dataclass(frozen=True)
class TowerSizes:
    """A vision transformer that sees each frame, or pair of frames, by itself.

    mlp_matrices: 2, or 3 with a gate. window: patches that attend to one another in most layers; None: all.
    full_layers: layers without a window. behind: multiplications per patch of what makes visual tokens of
    patches (projector, auto-encoder, mergers).
    """

    hidden: int
    intermediate: int
    layers: int
    patches: int
    mlp_matrices: int = 2
    window: int | None = None
    full_layers: int = 0
    frames_per_step: int = 1
    behind: int = 0

    def flops(self, frames: int) -> int:
        """From patches to visual tokens; making patches is a five-hundredth (of x2l-tiny, a fourteenth)."""
        steps = -(-frames // self.frames_per_step)
        weights = 4 * self.hidden**2 + self.mlp_matrices * self.hidden * self.intermediate
        full = self.full_layers if self.window else self.layers
        seen = full * self.patches + (self.layers - full) * (self.window or 0)
        return steps * self.patches * (2 * (self.layers * weights + self.behind) + 4 * self.hidden * seen)

    @property
    def parameters(self) -> int:
        """Weights of the layers: what is behind them has a fiftieth of a language model's, at most."""
        return self.layers * (4 * self.hidden**2 + self.mlp_matrices * self.hidden * self.intermediate)


def mlp(*sizes: int) -> int:
    """Weights of linear layers in a row: multiplications per token."""
    return sum(narrow * wide for narrow, wide in pairwise(sizes))


def auto_encoder(channels: int, positions: int) -> int:
    """Multiplications of Video-XL-2's auto-encoder for four frames of `positions` patch features each.

    Twice: attention in each frame, attention over time, a 3 x 3 x 3 convolution that halves the time.
    """
    per_frame = 8 * channels**2 * positions + 2 * positions**2 * channels
    convolutions = 27 * channels**2 * positions * (2 + 1)
    return (4 + 2) * per_frame + convolutions


def paper_attention_flops(sizes: DecoderSizes, tokens: int, cached: int) -> int:
    """F^Att of equation 9, of one layer."""
    keys, width = tokens + cached, sizes.heads * sizes.head_dim
    qkv = 2 * tokens * sizes.hidden * width + 2 * tokens * sizes.kv_projection
    scores_and_values = 2 * (2 * width * tokens * keys)
    return qkv + scores_and_values + sizes.heads * keys * keys + 2 * tokens * width * sizes.hidden


def paper_other_flops(sizes: DecoderSizes, tokens: int) -> int:
    """F^Oth of equation 10, of one layer, without the head that it counts once."""
    up_and_gate = 2 * tokens * sizes.hidden * 2 * sizes.intermediate
    return up_and_gate + tokens * sizes.intermediate + 2 * tokens * sizes.hidden * sizes.intermediate


def paper_prefill_flops(sizes: DecoderSizes, tokens: int, chunk: int, ratio: int) -> int:
    """Equation 8 (ratio 1: equation 7, in one piece): every layer, and the head over every token."""
    if ratio == 1:
        attention, rows = paper_attention_flops(sizes, tokens, 0), tokens
    else:
        rows = tokens + -(-tokens // ratio)
        attention = sum(
            paper_attention_flops(sizes, chunk * (ratio + 1) // ratio, i * chunk // ratio)
            for i in range(-(-tokens // chunk))
        )
    head = 2 * rows * sizes.hidden * sizes.vocab
    return sizes.layers * (attention + paper_other_flops(sizes, rows)) + head
