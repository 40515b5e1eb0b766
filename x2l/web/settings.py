"""What a visitor may choose, as the recipe that answers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import yaml

from x2l import registry
from x2l.errors import X2LError
from x2l.interfaces import Backbone
from x2l.recipe import Recipe

UNCOMPRESSED = ("compressor=identity", "ratios=[1]", "selector=constant", "proportional.beta=0")
"""Overrides that leave a recipe's cache as it is."""


@dataclass(frozen=True)
class Settings:
    """Choices as they stand in the page.

    oracle, selector: a name, or a spec as YAML: {name: threshold, above: 1}. k: of no account
    where a selector has none. ratios: whole numbers between commas. beta: of proportional attention; 0: off.
    """

    oracle: str
    selector: str
    k: int | None
    ratios: str
    beta: int | float

    @classmethod
    def of(cls, recipe: Recipe) -> Settings:
        """The choices that leave a recipe as it is."""
        return cls(
            oracle=recipe.oracle["name"],
            selector=recipe.selector["name"],
            k=recipe.selector.get("k", 3),
            ratios=", ".join(map(str, recipe.ratios)),
            beta=recipe.proportional.beta,
        )

    def recipe(self, base: Recipe) -> Recipe:
        """The base with these choices; a method that it names already keeps its fields.

        Raises X2LError naming the choice that is wrong.
        """
        overrides = [f"ratios=[{self.ratios}]", f"proportional.beta={self.beta}"]
        for slot in ("oracle", "selector"):
            chosen = getattr(self, slot).strip()
            if chosen != getattr(base, slot)["name"]:
                overrides.append(f"{slot}={chosen or None}")
        recipe = base.apply(overrides)
        if takes_k(self.selector):
            recipe = recipe.apply([f"selector.k={self.k}"])
        return recipe.check()


def uncompressed(recipe: Recipe) -> Recipe:
    """The recipe on the whole cache, without a selection."""
    return recipe.apply(UNCOMPRESSED)


def choices(slot: str, backbone: Backbone) -> list[str]:
    """Names of the methods that need no field and fit the backbone."""
    return [name for name in registry.names(slot) if _fits(slot, name, backbone)]


def takes_k(selector: str) -> bool:
    """Whether a selector, a name or a spec that leaves k open, has the field k."""
    try:
        spec: Any = yaml.safe_load(selector)
        name = spec["name"] if isinstance(spec, dict) else str(spec)
        is_open = not (isinstance(spec, dict) and "k" in spec)
        return is_open and "k" in {field.name for field in fields(registry.get("selector", name))}
    except (X2LError, yaml.YAMLError, KeyError):  # it is refused when it is built
        return False


def _fits(slot: str, name: str, backbone: Backbone) -> bool:
    try:
        registry.check(slot, name)
    except X2LError:
        return False
    return registry.required(registry.outline(slot, name)) <= {*backbone.provides}
