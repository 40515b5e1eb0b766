"""Reading YAML settings and overriding them from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from x2l.config.paths import local_path
from x2l.errors import X2LError

Built = TypeVar("Built")


def read_settings(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises X2LError naming the file if there is none."""
    try:
        data = yaml.safe_load(local_path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise X2LError(f"recipe {path}: cannot be read, {error.__class__.__name__}") from error
    except yaml.YAMLError as error:
        raise X2LError(f"recipe {path}: not YAML, {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise X2LError(f"recipe {path}: expected a mapping of keys to values")
    for key, value in data.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:  # YAML also knows dates, sets and bytes
            raise X2LError(f"recipe {path}: {key}: expected plain data, {error}") from error
    return {str(key): value for key, value in data.items()}


def built_from(path: str | Path, build: Callable[[dict[str, Any]], Built]) -> Built:
    """Builds from a YAML file, by `build`. Raises X2LError naming the file, whatever is wrong with it."""
    data = read_settings(path)
    try:
        return build(data)
    except X2LError as error:
        raise X2LError(f"recipe {path}: {error}") from error


def overridden(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of plain data with "dotted.key=value" overrides; values are YAML ("ratios=[2, 8]").

    Raises X2LError for an override that cannot be read.
    """
    changed = json.loads(json.dumps(data))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise X2LError(f"override {override!r}: expected dotted.key=value")
        _set(changed, key, _parse(text, override))
    return changed


def value_at(data: Any, path: str) -> Any:
    """The value at a dotted path of plain data; None if there is none."""
    for name in path.split("."):
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def first_difference(one: Any, other: Any, path: str = "") -> str | None:
    """The dotted path of the first value in which plain data differ; None if they are equal."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        pairs = [(key, one.get(key), other.get(key)) for key in {**one, **other}]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(str(number), *pair) for number, pair in enumerate(zip(one, other, strict=True))]
    else:
        return None if one == other else path
    found = (first_difference(a, b, f"{path}.{key}" if path else key) for key, a, b in pairs)
    return next((difference for difference in found if difference is not None), None)


def _parse(text: str, override: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise X2LError(f"override {override!r}: the value is not YAML") from error


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a nested key; a method that was given by name alone becomes a mapping."""
    *parents, last = key.split(".")
    for depth, name in enumerate(parents, start=1):
        inner = data.setdefault(name, {})
        inner = data[name] = {"name": inner} if isinstance(inner, str) else inner
        if not isinstance(inner, dict):
            raise X2LError(f"{key}: {'.'.join(parents[:depth])} has no fields of its own")
        data = inner
    data[last] = value
