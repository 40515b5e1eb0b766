"""The recipe of a post-training run: which pipeline, what of it is trained, on which questions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from x2l import registry
from x2l.chunkers import make_chunker
from x2l.data import make_training_data
from x2l.errors import require, unknown
from x2l.recipe import Recipe
from x2l.training.levels import Levels, check_levels
from x2l.training.qa_reading import require_no_backbone
from x2l.training.recipe import TrainingRecipe
from x2l.training.trainable import LoRA, trainable_parts
from x2l.training.x2l_module import PlanFrom

Logger = Literal["csv", "tensorboard", "wandb", "mlflow"]


@dataclass(frozen=True)
class EarlyStop:
    """Stop when the loss on held-out questions has not fallen `patience` times in a row; keep the best."""

    patience: int = 3


@dataclass(frozen=True, kw_only=True)
class VideoQARecipe(TrainingRecipe):
    """Post-training of any backbone that can be trained, on questions about videos."""

    train: Literal["video_qa"]
    data: dict[str, Any]
    """Where questions and videos come from: see x2l.data."""
    num_steps: int
    pipeline: dict[str, Any] = field(default_factory=dict)
    """Fields of x2l.recipe.Recipe: the parts as they answer, trained in place."""
    trains: list[str] = field(default_factory=lambda: ["vst"])
    """Parts of the network ("all", "lora", "language_model", those that its backbone tells apart), or slots
    whose parts have weights of their own."""
    lora: LoRA = field(default_factory=LoRA)
    vst_start: Literal["kept", "gather"] = "kept"
    """How VSTs start: as the backbone has them (copies of the ordinary projections, where its folder has
    none), or gathering values in the first layer (x2l.training.start), for a model that never met one."""
    lr: float = 1e-5
    weight_decay: float = 0.0
    warmup_share: float = 0.03
    levels: list[Levels] = field(default_factory=list)
    """Ratios by stage; none: those of the pipeline."""
    plan: PlanFrom = "selector"
    recompute: bool = True
    """Read and pre-fill chunks once more in the backward pass: less memory, more time."""
    accumulate: int = 1
    """Videos per optimiser step, on each device."""
    questions_per_video: int | None = None
    max_broken_share: float = 0.05
    max_grad_norm: float = 1.0
    val: dict[str, Any] | None = None
    """Held-out questions, as `data`."""
    val_every: int = 100
    """Steps between looks at them."""
    early_stop: EarlyStop | None = None
    loggers: list[Logger] = field(default_factory=lambda: ["csv", "tensorboard"])
    token_cache: str | None = None
    """A folder that keeps visual tokens for the next time that a video comes."""
    strategy: str = "auto"
    """Lightning's: ddp, fsdp2, deepspeed_stage_2, ..."""
    devices: int = 1
    num_nodes: int = 1
    checkpoint_every: int = 50

    def __post_init__(self):
        super().__post_init__()
        require(bool(self.trains), "trains", "at least one part", self.trains)
        trains_vsts = not {"vst", "all"}.isdisjoint(self.trains)
        require(self.vst_start == "kept" or trains_vsts, "trains", "vst or all with vst_start", self.trains)
        for name in ("warmup_share", "max_broken_share"):
            require(0 <= getattr(self, name) <= 1, name, "a number from 0 to 1", getattr(self, name))
        fits = self.val is None or self.val_every <= self.num_steps
        require(fits, "val_every", f"num_steps ({self.num_steps}) or less", self.val_every)
        if self.early_stop:
            require(self.val is not None, "early_stop", "held-out questions (val) to look at", self.val)
            patience, every = self.early_stop.patience, self.val_every
            require(patience > 0, "early_stop.patience", "1 or more", patience)
            # Otherwise the last weights, those of the lowest learning rate, would never be looked at.
            expected = f"a divisor of num_steps ({self.num_steps}) with early_stop"
            require(self.num_steps % every == 0, "val_every", expected, every)
        self.lora.check("lora")
        # Of the module as well; here it is before weights are loaded and anything is written.
        answering = self.answering.check()
        known = trainable_parts(registry.get("backbone", answering.backbone["name"]))
        for i, part in enumerate(self.trains):
            if part not in known:
                raise unknown(f"trains.{i}", part, known)
        selector = registry.build("selector", answering.selector)
        check_levels(self.levels, self.num_steps, selector)
        require_no_backbone(make_chunker(answering.chunk_frames), "pipeline.chunk_frames")

    @property
    def answering(self) -> Recipe:
        """The pipeline's recipe. Raises X2LError naming what is wrong under `pipeline`."""
        return Recipe.from_mapping(self.pipeline)

    def decisive(self) -> dict[str, Any]:
        """Without what decides speed and report only, what lies where, and when to give up."""
        looks = () if self.early_stop else ("val", "val_every")
        indifferent = ("loggers", "token_cache", "recompute", "max_broken_share", *looks)
        decisive = {name: value for name, value in super().decisive().items() if name not in indifferent}
        for part, name in ((decisive["data"], "dir"), (decisive["pipeline"].get("backbone"), "device")):
            if isinstance(part, dict):
                part.pop(name, None)
        return decisive

    def check_data(self) -> None:
        for name in ("data", "val"):
            if (spec := getattr(self, name)) is not None:
                len(make_training_data(spec, name))
