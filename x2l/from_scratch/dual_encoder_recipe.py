"""The recipe of the embedded dual encoder: sizes, what a step draws, learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from x2l.errors import require
from x2l.from_scratch.scene_batches import SceneOptions
from x2l.training.recipe import TrainingRecipe, require_positive


@dataclass(frozen=True)
class TextSizes:
    """Sizes of the text tower, by transformers' names."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int


@dataclass(frozen=True)
class DualEncoderSizes:
    """The sizes that are new; those of the image tower are its own."""

    text: TextSizes
    projection_dim: int
    tower: str | None = None
    """Checkpoint folder of the Video-XL whose image tower training starts from; null: that of x2l-tiny."""


@dataclass(frozen=True, kw_only=True)
class DualEncoderRecipe(TrainingRecipe):
    """The embedded dual encoder, in one stage."""

    train: Literal["dual_encoder"]
    model: DualEncoderSizes
    data: SceneOptions
    num_steps: int
    muon_lr: float
    adamw_lr: float
    flat_share: float = 0.5
    """Share of the steps after which the learning rates fall."""

    def __post_init__(self):
        super().__post_init__()
        require_positive(self.model, "model.")
        require_positive(self.model.text, "model.text.")
        require_positive(self.data, "data.")
        require(self.flat_share <= 1, "flat_share", "a number from 0 to 1", self.flat_share)
        text = self.model.text
        require(
            text.hidden_size % text.num_attention_heads == 0,
            "model.text.hidden_size",
            f"a multiple of num_attention_heads ({text.num_attention_heads})",
            text.hidden_size,
        )
        self.data.check("data")
