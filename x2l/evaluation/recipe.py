"""A recipe of an evaluation: which questions, and which rows answer them. Plain YAML, strictly checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from x2l import registry
from x2l.config.fields import arguments
from x2l.config.settings import built_from, overridden
from x2l.data import make_data
from x2l.errors import X2LError, require
from x2l.evaluation.claims import read_claims
from x2l.evaluation.figures import FigureOptions
from x2l.interfaces import Data
from x2l.recipe import Recipe

Size = Literal["full", "quick", "smoke"]
Answers = Literal["generated", "letters"]


@dataclass(frozen=True)
class Generation:
    """Options of generate(); an evaluation draws nothing at random."""

    max_new_tokens: int = 4

    def check(self) -> None:
        if self.max_new_tokens < 1:
            raise X2LError(f"generation.max_new_tokens: expected 1 or more, got {self.max_new_tokens}")


@dataclass(frozen=True)
class _Keys:
    """The keys of a recipe file."""

    data: dict[str, Any]
    """{name, **fields} of a data (see x2l.data), such as {name: folder, dir}."""
    rows: dict[str, dict[str, Any]]
    """Fields of x2l.recipe.Recipe by row, which take the place of those in `base`."""
    base: dict[str, Any] = field(default_factory=dict)
    """Fields of x2l.recipe.Recipe that the rows share."""
    generation: Generation = field(default_factory=Generation)
    show_options: bool = False
    """Whether the model sees the options of a question, and may answer with a letter."""
    answers: Answers = "generated"
    """Whether an answer is generated, or is the option whose letter is likeliest, if options are shown."""
    max_broken_share: float = 0.05
    """Stop when more of the videos cannot be read, 0..1; fewer are passed over, counted and named."""
    claims: list[dict[str, Any]] = field(default_factory=list)
    """What the numbers must bear out (see x2l.evaluation.claims)."""
    figure: FigureOptions | None = None
    """A figure beside those of accuracy and trade-off; it decides no answer."""


@dataclass(frozen=True)
class Evaluation:
    """A checked recipe: `rows` are complete Recipes by name, in the order of the file."""

    data: Data
    rows: dict[str, Recipe]
    generation: Generation
    show_options: bool
    answers: Answers
    max_broken_share: float
    mapping: dict[str, Any]

    @classmethod
    def load(
        cls,
        path: str | Path,
        overrides: Sequence[str] = (),
        size: Size = "full",
        placed: Mapping[str, str] = MappingProxyType({}),
    ) -> Evaluation:
        """A recipe from a YAML file with "dotted.key=value" overrides (values are YAML).

        size: "quick" or "smoke" take fewer and shorter videos, to see that all rows run.
        placed: fields of every row's backbone, such as {"device": "cuda"}.
        Raises X2LError naming the file and the dotted path of what is unknown, missing or of the wrong type.
        """

        def build(data: dict[str, Any]) -> Evaluation:
            return cls.from_mapping(_placed(overridden(_resized(data, size), overrides), placed))

        return built_from(path, build)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Evaluation:
        """A recipe from plain data. Raises X2LError naming the dotted path of what is wrong."""
        keys = _Keys(**arguments(_Keys, mapping, "", lambda _: None))
        if not keys.rows:
            raise X2LError("rows: expected at least one row")
        _row("base", keys.base)
        rows = {name: _row(f"rows.{name}", keys.base | changes) for name, changes in keys.rows.items()}
        for number, claim in enumerate(read_claims(keys.claims)):
            claim.check(f"claims.{number}", list(rows))
        keys.generation.check()
        share = keys.max_broken_share
        require(0 <= share <= 1, "max_broken_share", "a number from 0 to 1", share)
        data = make_data(keys.data, "data")
        if keys.figure:
            keys.figure.check(keys.data["name"], rows)
        return cls(data, rows, keys.generation, keys.show_options, keys.answers, share, dict(mapping))

    def hash(self) -> str:
        """sha256 over everything that decides an answer: equal recipes have equal hashes.

        The folder of generated data does not count: its content follows from the other fields.
        """
        decisive = {
            "data": {key: value for key, value in self.mapping["data"].items() if key != "dir"},
            "rows": {name: row.to_mapping() for name, row in self.rows.items()},
            "generation": asdict(self.generation),
            "show_options": self.show_options,
        }
        if self.answers != "generated":  # a recipe is what it was before there was the field
            decisive["answers"] = self.answers
        canonical = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _resized(mapping: dict[str, Any], size: Size) -> dict[str, Any]:
    data = mapping.get("data")
    # What is wrong with the data is said when it is read.
    if size == "full" or not isinstance(data, dict) or data.get("name") not in registry.names("data"):
        return mapping
    return {**mapping, "data": data | registry.get("data", data["name"]).reduced.get(size, {})}


def _placed(mapping: dict[str, Any], placed: Mapping[str, str]) -> dict[str, Any]:
    """Rows with a backbone of their own are told too: a row's fields take the place of those in `base`."""
    given = [f"backbone.{name}={value}" for name, value in placed.items()]
    rows = mapping.get("rows")
    if not given or not isinstance(rows, dict):
        return mapping
    told = {name: overridden(row, given) if "backbone" in row else row for name, row in rows.items()}
    return mapping | {"base": overridden(mapping.get("base", {}), given), "rows": told}


def _row(path: str, mapping: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.from_mapping(mapping).check()
    except X2LError as error:
        raise X2LError(f"{path}.{error}") from error
