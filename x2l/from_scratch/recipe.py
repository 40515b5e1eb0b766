"""The recipe of the embedded backbone: sizes, stages, learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from x2l.errors import require
from x2l.from_scratch.curriculum import Stage
from x2l.from_scratch.start import FAST_FREQUENCIES
from x2l.training.recipe import TrainingRecipe, require_positive


@dataclass(frozen=True)
class TowerSizes:
    """Sizes of the CLIP-style tower, by transformers' names."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    patch_size: int
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"

    def check(self, path: str) -> None:
        require(
            self.hidden_size % self.num_attention_heads == 0,
            f"{path}.hidden_size",
            f"a multiple of num_attention_heads ({self.num_attention_heads})",
            self.hidden_size,
        )
        # Patches are pooled two by two, and the tokens divided over two by two cells.
        require(
            self.image_size % (4 * self.patch_size) == 0,
            f"{path}.image_size",
            f"a multiple of four patches ({4 * self.patch_size})",
            self.image_size,
        )


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of the network, by the names of its config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    vision_config: TowerSizes
    beacon_param: list[Literal["q", "k", "v", "o"]]
    rope_theta: float = 1_000_000.0
    initializer_range: float = 0.02
    mm_vision_select_layer: int = -1
    mm_time_amplitude: float = 0.0

    def check(self, path: str) -> None:
        heads, smallest = self.num_attention_heads, 2 * FAST_FREQUENCIES
        require(
            self.hidden_size % heads == 0 and self.hidden_size // heads >= smallest,
            f"{path}.hidden_size",
            f"a multiple of num_attention_heads ({heads}), {smallest} or more for each",
            self.hidden_size,
        )
        require(
            self.num_key_value_heads == heads,
            f"{path}.num_key_value_heads",
            f"as many as num_attention_heads ({heads}), because values start as the identity",
            self.num_key_value_heads,
        )
        has_both = {"q", "o"} <= {*self.beacon_param}
        require(has_both, f"{path}.beacon_param", "a list with q and o", self.beacon_param)
        self.vision_config.check(f"{path}.vision_config")


@dataclass(frozen=True)
class VisionOptions:
    """First stage: the tower and the projector. `batch_size` counts frames, in eights."""

    num_steps: int
    batch_size: int
    muon_lr: float
    adamw_lr: float


@dataclass(frozen=True)
class LanguageOptions:
    """Second stage: the language model and its VSTs."""

    muon_lr: float
    adamw_lr: float
    stages: list[Stage]
    retrieval_weight: float = 0.0
    """Weight of the loss that aligns words with visual tokens, for the attention oracle."""
    previous_word_head: bool = False
    """Start with a head of the first layer that attends to the word before."""
    flat_share: float = 0.5
    """Share of the steps after which the learning rates fall."""

    @property
    def compresses(self) -> bool:
        """Whether VSTs are trained at all; without them, a plain language model is saved."""
        return any(set(stage.ratios) != {"1"} for stage in self.stages)

    def check(self, path: str) -> None:
        require(0 <= self.flat_share <= 1, f"{path}.flat_share", "a number from 0 to 1", self.flat_share)
        require(len(self.stages) > 0, f"{path}.stages", "at least one stage", self.stages)
        for number, stage in enumerate(self.stages):
            stage.check(f"{path}.stages.{number}")


@dataclass(frozen=True, kw_only=True)
class TinyRecipe(TrainingRecipe):
    """The embedded backbone, x2l-tiny, in two stages."""

    train: Literal["x2l_tiny"] = "x2l_tiny"
    model: ModelSizes
    vision: VisionOptions
    language: LanguageOptions

    def __post_init__(self):
        super().__post_init__()
        require_positive(self.model, "model.")
        require_positive(self.model.vision_config, "model.vision_config.")
        require_positive(self.vision, "vision.")
        require_positive(self.language, "language.")
        self.model.check("model")
        self.language.check("language")
