"""Checks that parts fit each other, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from x2l import registry
from x2l.cache import Positions
from x2l.interfaces import Backbone, Chunker, Compressor, Oracle
from x2l.types import X2LError, check_ratios


def check_fit(backbone: Backbone, compressor: Compressor, oracle: Oracle, chunker: Chunker) -> None:
    """Raise X2LError if the backbone does not provide what a part requires."""
    for method in (compressor, *oracle.with_inner(), chunker):
        registry.require_provided(method, backbone.provides, registry.name_of(type(backbone)))


def check_levels(ratios: Sequence[int], positions: str) -> None:
    """Raise X2LError for ratios that no index has, and positions that no cache has."""
    check_ratios(ratios)
    if positions not in get_args(Positions):
        raise X2LError(f"positions: expected one of {get_args(Positions)}, got {positions!r}")
