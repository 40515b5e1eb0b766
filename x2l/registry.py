"""Methods by name. One file with one class in a slot's folder is a method; the file name is its name.

Classes of other packages join with `@register` or an entry point of the group "x2l.oracles" (one group
per slot). Files whose name starts with "_" are helpers. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import chain
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from x2l.config.fields import Build, arguments, join
from x2l.errors import X2LError, unknown
from x2l.outline import Outline, module_doc, outlines

SLOTS = {
    "backbone": "x2l.backbones",
    "compressor": "x2l.compressors",
    "oracle": "x2l.oracles",
    "selector": "x2l.selectors",
    "chunker": "x2l.chunkers",
    "data": "x2l.data",
}
"""Each slot and the folder of its shipped methods, which is also the group of its entry points."""
PARTS = ("backbone", "compressor", "oracle", "selector")
"""The slots of a question's way to its answer."""
_WEIGHTS = "weights"
"""Key of a spec: a file with the part's own weights. Not a field, so that no method has to declare it."""


@dataclass(frozen=True)
class _Base:
    """A slot's abstract class, and the class method that builds a method (None: the class itself)."""

    abc: type
    maker: str | None


_ABSTRACT = "x2l.interfaces"
_bases: dict[str, _Base] = {}
"""Announced by `slot` where they are defined, in `_ABSTRACT`."""
_registered: dict[str, dict[str, type]] = {name: {} for name in SLOTS}
_loaded_entry_points: dict[type, str] = {}
"""Their names; an entry point may lead to a class by another path than where it is defined."""


def slot(name: str, maker: str | None = None) -> Callable[[type], type]:
    """Class decorator of the abstract class of a slot: its subclasses are methods.

    maker: name of the class method that builds one; its parameters are the fields. None: the class itself.
    """

    def announce(abc: type) -> type:
        _bases[_known(name)] = _Base(abc, maker)
        return abc

    return announce


def register(target: type | str | None = None) -> Callable | type:
    """Class decorator: `@register` (named in snake_case) or `@register("name")`.

    The slot is that of the ABC the class subclasses. Raises X2LError if the name is taken.
    """
    if isinstance(target, type):
        return _add(target, _snake_case(target.__name__))
    return lambda cls: _add(cls, target or _snake_case(cls.__name__))


def names(slot: str) -> list[str]:
    """Every name of a slot, sorted; imports none of them."""
    return sorted(_origins(slot))


def get(slot: str, name: str) -> type:
    """The class called `name`. Raises X2LError listing the known names and the closest."""
    origin = _origin_of(slot, name)
    if name in _registered[slot]:
        return _registered[slot][name]
    if ":" in origin:
        return _load_entry_point(slot, name, origin)
    return _only_class(slot, origin)


def outline(slot: str, name: str) -> Outline | type:
    """The class called `name`; of a shipped one what it says of itself, which imports nothing.

    Raises X2LError as `get`.
    """
    origin = _origin_of(slot, name)
    return get(slot, name) if ":" in origin else _only_outline(origin)


def build(slot: str, spec: Any, path: str = "") -> Any:
    """The method that `spec` describes: an instance (returned as it is), a name or {name, **fields}.

    Fields are checked against the class's annotations; one that is annotated with a slot takes a nested
    spec. The fields of a backbone are the parameters of its `from_pretrained`. The key `weights` of a
    compressor, an oracle or a selector is a file of weights that `x2l fit` wrote.
    Raises X2LError naming the dotted path (from `path`) of what is wrong.
    """
    if slot_of(type(spec)) == _known(slot):
        return spec
    make, given = _make_and_fields(slot, spec, path or slot)
    weights = _weights_of(make, given, path or slot)
    method = make(**arguments(make, given, path or slot, builder))
    if weights is not None:
        method.load_weights(weights, join(path or slot, _WEIGHTS))
    if _bases[slot].maker:
        method.built_from = {"name": name_of(type(method)), **_plain(given, slot)}
    return method


def check(slot: str, spec: Any, path: str = "") -> None:
    """Raise the X2LError that `build` would raise for a wrong name or field, but build nothing."""
    if slot_of(type(spec)) != _known(slot):
        make, given = _make_and_fields(slot, spec, path or slot)
        _weights_of(make, given, path or slot)
        arguments(make, given, path or slot, _checker)


def describe(method: Any) -> dict[str, Any]:
    """The spec that builds `method` again, as JSON-able data: {name, **fields}, defaults included.

    Of one that a class method made (a backbone), the fields that it was built with.
    Raises X2LError for a value that is not plain data.
    """
    name = name_of(type(method))
    slot = slot_of(type(method))
    if slot and _bases[slot].maker:
        return dict(method.built_from or {"name": name})
    described = {"name": name} | {
        f.name: _plain(getattr(method, f.name), f.name) for f in fields(method) if f.init
    }
    weights = getattr(method, "weights_file", None)
    return described | {_WEIGHTS: weights} if weights else described


def name_of(cls: type) -> str:
    """The registry name of a class; "module:Class" for one that has none."""
    if cls in _loaded_entry_points:
        return _loaded_entry_points[cls]
    slot = slot_of(cls)
    origin = _origin(cls)
    return next((name for name, known in _origins(slot).items() if known in (origin, cls.__module__)), origin)


def slot_of(cls: type) -> str | None:
    """The slot whose ABC `cls` is or subclasses."""
    return next((name for name, base in _bases.items() if issubclass(cls, base.abc)), None)


def required(method: Any) -> set[str]:
    """Capabilities of a backbone that a method, its class or its outline asks for.

    To observe something of the pre-fill asks for "observe_" and its name.
    """
    observed = {f"observe_{what}" for what in getattr(method, "observes", ())}
    return observed.union(getattr(method, "requires", ()))


def require_provided(method: Any, provides: Collection[str], by: str) -> None:
    """Raise X2LError, naming methods that fit, if a method requires more than is provided by `by`."""
    if not (missing := required(method) - {*provides}):
        return
    slot = slot_of(type(method))
    fitting = [name for name in names(slot) if _fits(slot, name, provides)]
    raise X2LError(
        f"{slot} {name_of(type(method))}: needs {', '.join(sorted(missing))}, which {by} does not provide, "
        f"expected one of {', '.join(fitting) or '(none)'}"
    )


def _fits(slot: str, name: str, provides: Collection[str]) -> bool:
    try:
        return required(outline(slot, name)) <= {*provides}
    except X2LError:  # of another package, which cannot be imported
        return False


def summary(slot: str, name: str) -> tuple[str, str]:
    """The first line of a method's docstring and what follows "Source:" in it ("" where there is none)."""
    own, module = _docstrings(outline(slot, name))
    source = re.search(r"^\s*Source:\s*(.+)$", own, re.M) or re.search(r"^\s*Source:\s*(.+)$", module, re.M)
    lines = (own.strip() or module.strip()).splitlines()
    return lines[0] if lines else "", source.group(1).strip() if source else ""


def _docstrings(cls: Outline | type) -> tuple[str, str]:
    """Of a class and its module."""
    if isinstance(cls, Outline):
        return cls.doc, module_doc(cls.module)
    # A dataclass without a docstring is given its signature as one.
    own = "" if (cls.__doc__ or "").startswith(f"{cls.__name__}(") else cls.__doc__ or ""
    return own, sys.modules[cls.__module__].__doc__ or ""


def load_plugin(path_or_module: str | Path) -> None:
    """Import a .py file or a module, so that the classes it registers are known by name.

    Raises X2LError if it is missing or fails to import.
    """
    target = str(path_or_module)
    is_path = target.endswith(".py")
    if is_path and not os.path.isfile(target):
        raise X2LError(f"plugin {target}: no such file")
    try:
        if is_path:
            _import_file(Path(target).resolve())
        else:
            import_module(target)
    except Exception as error:  # whatever a user's code raises when it is imported
        reason = " ".join(str(error).split())
        raise X2LError(f"plugin {target}: cannot be imported, {type(error).__name__}: {reason}") from error


def _import_file(path: Path) -> None:
    # The name is that of the file alone, so that loading it twice is loading it once.
    name = f"x2l_plugin_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    if name in sys.modules:
        return
    spec = spec_from_file_location(name, path)
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _known(slot: str) -> str:
    if slot not in SLOTS:
        raise unknown(f"slot {slot!r}", slot, SLOTS)
    return slot


def _abc(slot: str) -> type:
    return _bases[_known(slot)].abc


def _origin_of(slot: str, name: str) -> str:
    origins = _origins(slot)
    if name not in origins:
        raise unknown(f"{slot} {name!r}", name, origins)
    return origins[name]


def _origins(slot: str) -> dict[str, str]:
    """Origin of each name of a slot: a shipped module, or "module:Class" elsewhere."""
    origins: dict[str, str] = {}
    for name, origin in chain(_shipped(slot), _from_entry_points(slot), _from_decorator(slot)):
        if origins.setdefault(name, origin) != origin:
            raise X2LError(f"{slot} {name!r} is defined twice: by {origins[name]} and by {origin}")
    return origins


@cache
def _shipped(slot: str) -> tuple[tuple[str, str], ...]:
    """Cached: a name is asked for with every question, and folders are read for it."""
    folder = SLOTS[_known(slot)]
    modules = iter_modules(find_spec(folder).submodule_search_locations)
    names = [module.name for module in modules if not module.name.startswith("_")]
    return tuple((name, f"{folder}.{name}") for name in names)


@cache
def _from_entry_points(slot: str) -> tuple[tuple[str, str], ...]:
    """Cached: reading the metadata of every installed package takes milliseconds."""
    return tuple((point.name, point.value) for point in entry_points(group=SLOTS[_known(slot)]))


def _from_decorator(slot: str) -> Iterator[tuple[str, str]]:
    return ((name, _origin(cls)) for name, cls in _registered[slot].items())


def _names_of_bases() -> str:
    return ", ".join(base.abc.__name__ for base in _bases.values())


def _origin(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _add(cls: type, name: str) -> type:
    slot = slot_of(cls)
    if slot is None:
        raise X2LError(f"{cls.__qualname__}: expected a subclass of {_names_of_bases()}")
    # The same class again is a notebook cell that is run again.
    if (taken := _origins(slot).get(name, _origin(cls))) != _origin(cls):
        raise X2LError(f"{slot} {name!r} is defined twice: by {taken} and by {_origin(cls)}")
    _registered[slot][name] = cls
    return cls


def _only_class(slot: str, module_name: str) -> type:
    """The one concrete class of the slot that a shipped module defines."""
    found = [
        cls
        for _, cls in inspect.getmembers(import_module(module_name), inspect.isclass)
        if cls.__module__ == module_name and issubclass(cls, _abc(slot)) and not inspect.isabstract(cls)
    ]
    if len(found) != 1:
        raise X2LError(f"{module_name}: expected one subclass of {_abc(slot).__name__}, found {len(found)}")
    return found[0]


def _only_outline(module_name: str) -> Outline:
    """Of the one class of a shipped module that has an abstract class of a slot above it."""
    [found] = [
        each for each in outlines(module_name) if any(above.module == _ABSTRACT for above in each.lineage())
    ]
    return found


def _load_entry_point(slot: str, name: str, origin: str) -> type:
    try:
        cls = EntryPoint(name, origin, SLOTS[_known(slot)]).load()
    except Exception as error:  # whatever another package's code raises when it is imported
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise X2LError(f"{slot} {name!r}: entry point {origin} cannot be loaded, {reason}") from error
    if not (isinstance(cls, type) and issubclass(cls, _abc(slot))):
        raise X2LError(f"{slot} {name!r}: entry point {origin} is not a subclass of {_abc(slot).__name__}")
    _loaded_entry_points[cls] = name
    return cls


def _make_and_fields(slot: str, spec: Any, path: str) -> tuple[Callable, dict[str, Any]]:
    spec = {"name": spec} if isinstance(spec, str) else spec
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise X2LError(f"{path}: expected a name or a mapping with a name, got {spec!r}")
    cls = get(slot, spec["name"])
    given = {str(key): value for key, value in spec.items() if key != "name"}
    maker = _bases[slot].maker
    return (getattr(cls, maker) if maker else cls), given


def _weights_of(make: Callable, given: dict[str, Any], path: str) -> str | None:
    """The file that a spec loads weights from, taken out of its fields."""
    has_own_field = is_dataclass(make) and _WEIGHTS in {f.name for f in fields(make)}
    if has_own_field or not hasattr(make, "load_weights") or _WEIGHTS not in given:
        return None
    weights = given.pop(_WEIGHTS)
    if not isinstance(weights, str) or not os.path.isfile(weights):
        raise X2LError(f"{join(path, _WEIGHTS)}: expected the path of a safetensors file, got {weights!r}")
    return weights


def builder(cls: type) -> Build | None:
    """How a field that is annotated with `cls` is built: None unless that is a slot's."""
    slot = slot_of(cls)
    return slot and partial(build, slot)


def _checker(cls: type) -> Build | None:
    slot = slot_of(cls)
    return slot and partial(check, slot)


def _plain(value: Any, path: str) -> Any:
    """A field's value as JSON-able data."""
    if slot_of(type(value)):
        return describe(value)
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name), join(path, f.name)) for f in fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, join(path, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, path) for item in value]
    if isinstance(value, Path):
        return str(value)
    try:
        json.dumps(value)
    except TypeError as error:
        raise X2LError(f"{path}: {value!r} cannot be written to a recipe, expected plain data") from error
    return value


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
