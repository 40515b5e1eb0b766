"""Claims of a recipe, and whether its numbers bear them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from x2l.config.fields import arguments
from x2l.errors import X2LError, unknown
from x2l.evaluation import bootstrap
from x2l.evaluation.tally import Tally

CLEAR_GAP = 0.15


@dataclass(frozen=True)
class Claim:
    """One sentence with a number behind it.

    say: the sentence.
    row: the row it is about.
    group: of which questions; a kind of them does, too.
    measure: "accuracy"; "above_chance": accuracy less what can be guessed from the question alone (see
        x2l.evaluation.summary); "lowest_depth": accuracy at the depth of a haystack where it is lowest;
        "cache_gone": the share of the uncompressed cache that is not there.
    minus: the row whose accuracy is taken off, paired by question. Of several groups, and of several rows
        here, the worst is told, and all must hold.
    beyond: two rows; their difference, the first less the second, is taken off too: how much wider one gap
        is than another.
    between: two rows; the number is the share of the way from the first to the second.
    at_least, at_most: the bar for the point estimate.
    significant: the interval of the difference lies above 0.
    clearly: the difference is at least 0.15, too.
    """

    say: str
    row: str
    group: str | tuple[str, ...] = "all"
    measure: Literal["accuracy", "above_chance", "lowest_depth", "cache_gone"] = "accuracy"
    minus: str | tuple[str, ...] | None = None
    beyond: tuple[str, str] | None = None
    between: tuple[str, str] | None = None
    at_least: float | None = None
    at_most: float | None = None
    significant: bool = False
    clearly: bool = False

    @property
    def needs_interval(self) -> bool:
        """Whether the interval of a difference decides."""
        return self.significant or self.clearly

    def check(self, path: str, rows: Sequence[str]) -> None:
        """Raise X2LError naming the field under `path` that makes no claim about these rows."""
        named = {"row": self.row}
        named |= {f"minus.{i}": name for i, name in enumerate(_each(self.minus)) if name is not None}
        for field in ("beyond", "between"):
            named |= {f"{field}.{i}": name for i, name in enumerate(getattr(self, field) or ())}
        for name, row in named.items():
            if row not in rows:
                raise unknown(f"{path}.{name} {row!r}", row, rows)
        for field in ("group", "minus"):
            if getattr(self, field) == ():
                raise X2LError(f"{path}.{field}: expected at least one, got none")
        if self.minus and self.between:
            raise X2LError(f"{path}: expected minus or between, got both")
        if self.measure != "accuracy" and (self.minus or self.between):
            raise X2LError(f"{path}: expected minus and between with accuracy, got {self.measure}")
        for field in ("beyond", "significant", "clearly"):
            if getattr(self, field) and not self.minus:
                raise X2LError(f"{path}.{field}: expected minus, the row to compare with")
        if self.at_least is None and self.at_most is None and not self.needs_interval:
            raise X2LError(f"{path}: expected a bar, one of at_least, at_most, significant or clearly")


def read_claims(data: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Claims from plain data. Raises X2LError naming the dotted path of a field that is unknown or wrong."""
    return [
        Claim(**arguments(Claim, claim, f"claims.{number}", lambda _: None))
        for number, claim in enumerate(data)
    ]


def judge(
    claim: Claim,
    tallies: Mapping[str, Tally],
    cache_gone: Mapping[str, Mapping[str, float]],
    chance: Mapping[str, float],
) -> dict[str, Any]:
    """{say, value, interval, bar, holds}; a share of the cache and a single depth have no interval.

    cache_gone: by row and group; chance: by group and kind. Without questions of the group, or a loss from
    the first row to the second, the value is None and nothing holds.
    """
    each = [
        _judge(replace(claim, group=group, minus=minus), tallies, cache_gone, chance)
        for group in _each(claim.group)
        for minus in _each(claim.minus)
    ]
    return min(each, key=lambda judged: (judged["holds"], _margin(claim, judged["value"])))


def _each(value):
    return value if isinstance(value, tuple) else (value,)


def _judge(
    claim: Claim,
    tallies: Mapping[str, Tally],
    cache_gone: Mapping[str, Mapping[str, float]],
    chance: Mapping[str, float],
) -> dict[str, Any]:
    """Judges one group, against one row at most."""
    if claim.group not in chance:
        value, interval = None, None
    elif claim.measure == "cache_gone":
        value, interval = cache_gone[claim.row].get(claim.group), None
    elif claim.measure == "lowest_depth":
        depths = tallies[claim.row].by_depth().get(claim.group, {})
        value, interval = min(depths.values(), default=None), None
    else:
        value, interval = _accuracy(claim, tallies)
    if value is not None and claim.measure == "above_chance":
        value, interval = value - chance[claim.group], [end - chance[claim.group] for end in interval]
    return {
        "say": claim.say,
        "value": value,
        "interval": interval,
        "bar": _bar(claim),
        "holds": _holds(claim, value, interval),
    }


def _margin(claim: Claim, value: float | None) -> float:
    """How far a value is on the good side of the nearer bar: the more, the better."""
    if value is None:
        return -math.inf
    margins = [] if claim.at_most is None else [claim.at_most - value]
    if claim.at_least is not None or not margins:
        margins.append(value - (claim.at_least or 0))
    return min(margins)


def _accuracy(claim: Claim, tallies: Mapping[str, Tally]) -> tuple[float, list[float]] | tuple[None, None]:
    """The row's accuracy, its difference to another, or its place between two; with the 95 % interval."""

    def right(row: str) -> Float[np.ndarray, " videos"]:
        return tallies[row].counts(claim.group)[0]

    top, bottom = right(claim.row), tallies[claim.row].counts(claim.group)[1]
    if claim.minus:
        top = top - right(claim.minus)
    if claim.beyond:
        wide, narrow = map(right, claim.beyond)
        top = top - (wide - narrow)
    if claim.between:
        low, high = map(right, claim.between)
        top, bottom = top - low, high - low
    if bottom.sum() <= 0:
        return None, None
    samples = bootstrap.ratios(tallies[claim.row].weights, top, bottom)
    return float(top.sum() / bottom.sum()), bootstrap.interval(samples)


def _holds(claim: Claim, value: float | None, interval: list[float] | None) -> bool:
    if value is None or (claim.needs_interval and interval[0] <= 0):
        return False
    if claim.clearly and value < CLEAR_GAP:
        return False
    enough = claim.at_least is None or value >= claim.at_least
    return enough and (claim.at_most is None or value <= claim.at_most)


def _bar(claim: Claim) -> str:
    bars = {"at least": claim.at_least, "at most": claim.at_most}
    spelled = [f"{name} {value:g}" for name, value in bars.items() if value is not None]
    if claim.needs_interval:
        spelled.append("clearly above 0" if claim.clearly else "above 0 with its interval")
    return ", ".join(spelled)
