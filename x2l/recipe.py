"""A recipe: which four parts, at which ratios, from which frames. Plain YAML, strictly checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from x2l import registry
from x2l.chunkers import as_spec, make_chunker
from x2l.config.fields import arguments
from x2l.config.settings import built_from, overridden
from x2l.errors import X2LError
from x2l.interfaces import Backbone
from x2l.pipeline import Pipeline
from x2l.proportional import OFF, Proportional
from x2l.types import check_ratios
from x2l.video import Sampling

Spec = dict[str, Any]
"""A method as data: {name, **fields}."""

DEFAULT_BACKBONE: Spec = {"name": "x2l_tiny"}
DEFAULT_COMPRESSOR: Spec = {"name": "vst"}
DEFAULT_ORACLE: Spec = {"name": "attention"}
DEFAULT_SELECTOR: Spec = {"name": "top_k", "k": 3}

RECOMMENDED: dict[str, Any] = {
    "compressor": {"name": "vst", "edge_ratio": None, "passes": "clustered"},
    "ratios": [2, 8],
    "oracle": {"name": "sentences", "inner": {"name": "attention"}},
    "proportional": {"beta": 1.0},
}
"""Where the command line departs from the paper, which the defaults of Recipe follow: what reads all kinds
of questions as 2x does, or nearly, on x2l-tiny (recipes/spine.yaml, recipes/one_pass.yaml)."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides an answer but the video and the question; by default the paper's."""

    backbone: Spec = field(default_factory=DEFAULT_BACKBONE.copy)
    compressor: Spec = field(default_factory=DEFAULT_COMPRESSOR.copy)
    oracle: Spec = field(default_factory=DEFAULT_ORACLE.copy)
    selector: Spec = field(default_factory=DEFAULT_SELECTOR.copy)
    ratios: tuple[int, ...] = (2, 32)
    """Compression levels made of every chunk: tokens in / tokens kept."""
    chunk_frames: Any = 10
    """Frames per chunk, the last may be shorter; or a chunker by name or {name, **fields}, such as
    "scenes", which cuts where the picture changes."""
    sampling: Sampling = field(default_factory=Sampling)
    """Frames that are looked at: {num_frames}, or {fps, max_frames}; {picture_fps} of a folder."""
    positions: Literal["contiguous", "original"] = "contiguous"
    """Positions of the cached tokens: 0..n-1, or those of the uncompressed sequence."""
    proportional: Proportional = OFF
    """How tokens of the cache are weighed that stand for many; beta 0: like any other."""

    def __post_init__(self):
        check_ratios(self.ratios)
        registry.check("chunker", as_spec(self.chunk_frames), "chunk_frames")

    @classmethod
    def from_mapping(cls, data: Mapping[Any, Any]) -> Recipe:
        """A recipe from plain data; a method may be given by its name alone.

        Raises X2LError naming the dotted path of an unknown key or a wrong value.
        """
        data = {str(key): value for key, value in data.items()}
        data |= {slot: _spec(data[slot], slot) for slot in registry.PARTS if slot in data}
        return cls(**arguments(cls, data, "", lambda _: None))

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """A recipe from a YAML file. Raises X2LError naming the file."""
        return built_from(path, cls.from_mapping)

    def apply(self, overrides: Sequence[str]) -> Recipe:
        """A recipe with "dotted.key=value" overrides; values are YAML ("oracle.pool=mean", "ratios=[2, 8]").

        Raises X2LError for an override that cannot be read or that does not fit.
        """
        return self.from_mapping(overridden(self.to_mapping(), overrides))

    def check(self) -> Recipe:
        """This recipe; raises X2LError if a method or one of its fields does not exist or does not fit."""
        for slot in registry.PARTS:
            registry.check(slot, getattr(self, slot))
        make_chunker(self.chunk_frames)
        return self

    def to_mapping(self) -> dict[str, Any]:
        """The recipe as plain data, as YAML and JSON hold it."""
        mapping = json.loads(json.dumps({**asdict(self), "sampling": self.sampling.to_mapping()}))
        if not self.proportional.beta:
            del mapping["proportional"]  # off, a recipe is what it was before there was the field
        return mapping

    def hash(self) -> str:
        """sha256 of the recipe's canonical JSON: equal for equal recipes, whatever the order of keys."""
        canonical = json.dumps(self.to_mapping(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def build_pipeline(recipe: Recipe, backbone: Backbone | None = None) -> Pipeline:
    """The four parts of a recipe, with the weights loaded; a backbone that is loaded already may be given.

    Raises X2LError as `Recipe.check`, and if the backbone lacks what a part requires.
    """
    specs = {slot: getattr(recipe, slot) for slot in registry.PARTS} | (
        {"backbone": backbone} if backbone else {}
    )
    parts = {slot: registry.build(slot, spec) for slot, spec in specs.items()}
    return Pipeline(
        **parts,
        ratios=recipe.ratios,
        positions=recipe.positions,
        proportional=recipe.proportional,
        chunker=make_chunker(recipe.chunk_frames),
        sampling=recipe.sampling,
    )


def _spec(value: Any, key: str) -> Spec:
    value = {"name": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise X2LError(f"{key}: expected a name or a mapping with a name, got {value!r}")
    return dict(value)
