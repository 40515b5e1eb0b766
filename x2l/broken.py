"""Broken videos: passed over, counted and named, as long as they are few."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from x2l.errors import X2LError

_NAMED = 20
"""So many are named in one line."""


def require_few(broken: Collection[str], tried: int, max_share: float, at_least: int = 0) -> None:
    """Raise X2LError, naming the broken videos, if they are more than a share of those that were tried.

    broken: "name: why" of each. max_share: 0..1. at_least: fewer tried videos count as so many.
    """
    if len(broken) > max_share * max(tried, at_least):
        raise X2LError(
            f"{len(broken)} of {tried} videos are broken, more than max_broken_share {max_share} allows: "
            f"{named(broken)}"
        )


def passed_over(broken: Collection[str]) -> str:
    """What is said of broken videos."""
    return f"{len(broken)} broken videos were passed over: {named(broken)}"


def named(lines: Iterable[str]) -> str:
    """Lines in one, the first twenty of them."""
    lines = list(lines)
    more = f"; and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return "; ".join(lines[:_NAMED]) + more
