"""Slot "data": videos and what is asked about them, to evaluate on and to train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x2l import registry
from x2l.config.fields import arguments
from x2l.errors import X2LError, unknown
from x2l.interfaces import Data


def make_data(spec: Any, path: str) -> Data:
    """The data that {name, **fields} describes; files are read when items are asked for.

    Raises X2LError naming the dotted path of what is unknown, missing, of the wrong type or impossible.
    """
    names = registry.names("data")
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise X2LError(f"{path}: expected a mapping with a name, one of {', '.join(names)}, got {spec!r}")
    name = spec["name"]
    if name not in names:
        raise unknown(f"{path}.name {name!r}", str(name), names)
    cls = registry.get("data", name)
    given = {str(key): value for key, value in spec.items() if key != "name"}
    fields = arguments(cls, given, path, _builder)
    try:
        return cls(**fields)
    except X2LError as error:
        raise X2LError(f"{path}.{error}") from error


def make_training_data(spec: Any, path: str) -> Data:
    """As `make_data`; raises X2LError also for data that is not to be trained on."""
    data = make_data(spec, path)
    try:
        data.check_training()
    except X2LError as error:
        raise X2LError(f"{path}.{error}") from error
    return data


def _builder(kind: type):
    """The parts of a mixture are data, and their errors name their paths."""
    return make_data if kind is Data else registry.builder(kind)
