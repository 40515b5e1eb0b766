"""Configuration from plain data: fields of a class are checked against its annotations.

Nothing is ignored and no type is guessed; but an int is also a float, and so is 1e-5, to YAML a text.
"""

from __future__ import annotations

import collections.abc
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from inspect import get_annotations, signature
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from x2l.config.paths import local_path
from x2l.errors import X2LError, unknown

Build = Callable[[Any, str], Any]
"""Builds an object from (plain value, dotted path)."""

Builders = Callable[[type], Build | None]
"""Builds an annotated class from plain data, or None if it is not built but checked."""


@dataclass(frozen=True)
class Parameter:
    """Types that a field accepts, and whether it must be given."""

    annotation: Any
    required: bool


def arguments(make: Callable, given: Mapping[str, Any], path: str, builders: Builders) -> dict[str, Any]:
    """The keyword arguments for `make` (a dataclass or a function) that `given` spells.

    Raises X2LError naming the dotted path of a field that is unknown, missing or of the wrong type.
    A function with **options takes any further field unchecked.
    """
    known, takes_more = parameters(make, path)
    for name, parameter in known.items():
        if parameter.required and name not in given:
            raise X2LError(f"{join(path, name)}: missing, expected {spell(parameter.annotation)}")
    for name in given:
        if name not in known and not takes_more:
            raise unknown(join(path, name), name, known)
    anything = Parameter(Any, required=False)
    return {
        name: convert(value, known.get(name, anything).annotation, join(path, name), builders)
        for name, value in given.items()
    }


def parameters(make: Callable, path: str) -> tuple[dict[str, Parameter], bool]:
    """The fields of a dataclass or function, and whether it takes others too."""
    try:
        annotations = get_type_hints(make)
    except NameError as error:
        raise X2LError(f"{path}: an annotation of {make.__qualname__} cannot be resolved: {error}") from error
    if is_dataclass(make):
        _require_own_decorator(make)
        return {
            f.name: Parameter(annotations[f.name], _is_required(f)) for f in fields(make) if f.init
        }, False
    all_parameters = signature(make).parameters.values()
    named = [p for p in all_parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = {p.name: Parameter(annotations.get(p.name, Any), p.default is p.empty) for p in named}
    return known, any(p.kind is p.VAR_KEYWORD for p in all_parameters)


def _is_required(field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _require_own_decorator(cls: type) -> None:
    """A subclass that forgot @dataclass would ignore the fields it adds."""
    if "__dataclass_fields__" in vars(cls):
        return
    annotations = get_type_hints(cls)
    for name in get_annotations(cls).keys() - {f.name for f in fields(cls)}:
        if ClassVar not in (annotations[name], get_origin(annotations[name])):
            raise X2LError(f"{cls.__qualname__}.{name}: not a field, decorate the class with @dataclass")


def convert(value: Any, annotation: Any, path: str, builders: Builders) -> Any:
    """`value` as the `annotation` asks for it; raises X2LError naming `path`."""
    kind = get_origin(annotation) or annotation
    if kind is Any:
        return value
    if kind in _CONVERTERS:
        return _CONVERTERS[kind](value, annotation, path, builders)
    if build := isinstance(kind, type) and builders(kind):
        return build(value, path)
    if is_dataclass(kind) and isinstance(value, Mapping):
        return kind(**arguments(kind, value, path, builders))
    if kind is float and type(value) is int:
        return float(value)
    if kind is float and isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    if kind is Path and isinstance(value, str):
        try:
            return local_path(value)
        except X2LError as error:
            raise X2LError(f"{path}: {error}") from error
    if isinstance(value, bool) and kind in (int, float):
        raise _mismatch(value, annotation, path)
    if isinstance(kind, type) and not isinstance(value, kind):
        raise _mismatch(value, annotation, path)
    return value


def _convert_none(value: Any, annotation: Any, path: str, builders: Builders) -> None:
    if value is not None:
        raise _mismatch(value, annotation, path)


def _convert_union(value: Any, annotation: Any, path: str, builders: Builders) -> Any:
    choices = get_args(annotation)
    if value is None and type(None) in choices:
        return None
    choices = [choice for choice in choices if choice is not type(None)]
    if len(choices) == 1:
        return convert(value, choices[0], path, builders)
    for choice in choices:
        try:
            return convert(value, choice, path, builders)
        except X2LError:
            continue
    raise _mismatch(value, annotation, path)


def _convert_literal(value: Any, annotation: Any, path: str, builders: Builders) -> Any:
    for choice in get_args(annotation):
        if value == choice and type(value) is type(choice):
            return choice
    raise _mismatch(value, annotation, path)


def _convert_tuple(value: Any, annotation: Any, path: str, builders: Builders) -> tuple:
    kinds = get_args(annotation) or (Any, ...)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_items(value, annotation, [kinds[0]], path, builders))
    if not isinstance(value, list | tuple) or len(value) != len(kinds):
        raise _mismatch(value, annotation, path)
    return tuple(_items(value, annotation, kinds, path, builders))


def _convert_list(value: Any, annotation: Any, path: str, builders: Builders) -> list:
    return _items(value, annotation, get_args(annotation) or [Any], path, builders)


def _convert_mapping(value: Any, annotation: Any, path: str, builders: Builders) -> dict:
    key_kind, value_kind = get_args(annotation) or (Any, Any)
    if not isinstance(value, Mapping):
        raise _mismatch(value, annotation, path)
    return {
        convert(key, key_kind, join(path, str(key)), builders): convert(
            item, value_kind, join(path, str(key)), builders
        )
        for key, item in value.items()
    }


def _items(value: Any, annotation: Any, kinds, path: str, builders: Builders) -> list:
    if not isinstance(value, list | tuple):
        raise _mismatch(value, annotation, path)
    kinds = kinds if len(kinds) > 1 else list(kinds) * len(value)
    return [
        convert(item, kind, join(path, str(index)), builders)
        for index, (item, kind) in enumerate(zip(value, kinds, strict=True))
    ]


_CONVERTERS = {
    None: _convert_none,
    type(None): _convert_none,
    Union: _convert_union,
    types.UnionType: _convert_union,
    Literal: _convert_literal,
    tuple: _convert_tuple,
    list: _convert_list,
    collections.abc.Sequence: _convert_list,
    dict: _convert_mapping,
    collections.abc.Mapping: _convert_mapping,
}


def join(path: str, name: str) -> str:
    """The dotted path of a field."""
    return f"{path}.{name}" if path else name


def spell(annotation: Any) -> str:
    """An annotation in a reader's words: "dot or cosine", "int or None"."""
    if annotation in (None, type(None)):
        return "None"
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(map(spell, get_args(annotation)))
    return annotation.__name__ if type(annotation) is type else str(annotation)


def _mismatch(value: Any, annotation: Any, path: str) -> X2LError:
    return X2LError(f"{path}: expected {spell(annotation)}, got {value!r}")
