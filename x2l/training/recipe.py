"""The recipe of a training run, whatever is trained. Plain YAML, strictly checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from x2l.config.fields import arguments
from x2l.config.settings import built_from, overridden
from x2l.errors import require


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """Everything that decides a checkpoint, apart from rounding on other hardware."""

    train: str
    """What is trained, by name: see x2l.cli.fit."""
    seed: int
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    checkpoint_every: int = 500
    """Steps (batches) between Lightning checkpoints."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where the trained part computes; "auto" is CUDA, if there is a device."""

    def __post_init__(self):
        require(0 <= self.seed < 2**32, "seed", "an integer from 0 to 2^32 - 1", self.seed)
        require_positive(self, "")

    def decisive(self) -> dict[str, Any]:
        """Everything that decides the checkpoint, as plain data."""
        indifferent = ("checkpoint_every", "accelerator")
        return {name: value for name, value in self.to_mapping().items() if name not in indifferent}

    def check_data(self) -> None:
        """Raise X2LError for data that cannot be read, before anything is written."""

    def to_mapping(self) -> dict[str, Any]:
        """The recipe as plain data, defaults included."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_mapping(cls, data: Mapping[Any, Any]) -> TrainingRecipe:
        """A recipe from plain data.

        Raises X2LError naming the dotted path of what is unknown, missing, of the wrong type or impossible.
        """
        return cls(**arguments(cls, {str(key): value for key, value in data.items()}, "", lambda _: None))

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> TrainingRecipe:
        """A recipe from a YAML file with "dotted.key=value" overrides. Raises X2LError naming the file."""
        return built_from(path, lambda data: cls.from_mapping(overridden(data, overrides)))


MAY_BE_ZERO = (
    "retrieval_weight",
    "flat_share",
    "mm_time_amplitude",
    "weight_decay",
    "warmup_share",
    "max_broken_share",
)


def require_positive(part: Any, path: str) -> None:
    """Every size, number of steps and learning rate; 0 only where it switches something off."""
    for name, value in vars(part).items():
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and name not in ("seed", "mm_vision_select_layer")
        ):
            lowest_fits = value >= 0 if name in MAY_BE_ZERO else value > 0
            require(lowest_fits, path + name, "a positive number", value)
