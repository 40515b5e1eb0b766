"""Where questions and videos for training come from, chosen by {name: ..., **fields}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x2l.config.fields import arguments
from x2l.errors import X2LError, unknown
from x2l.training.qa_sources.llava import Llava
from x2l.training.qa_sources.mixture import Mixture
from x2l.training.qa_sources.needles import Needles
from x2l.training.qa_sources.sample import QASample as QASample
from x2l.training.qa_sources.sample import QASource as QASource
from x2l.training.qa_sources.vico import Vico

SOURCES = {"needles": Needles, "llava": Llava, "vico": Vico, "mixture": Mixture}


def make_source(spec: Any, path: str) -> QASource:
    """The source that plain data describes: {name, **fields}; files are read when samples are asked for.

    Raises X2LError naming the dotted path of what is unknown, missing, of the wrong type or impossible.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise X2LError(f"{path}: expected a mapping with a name, one of {', '.join(SOURCES)}, got {spec!r}")
    name = spec["name"]
    if name not in SOURCES:
        raise unknown(f"{path}.name {name!r}", name, SOURCES)
    given = {str(key): value for key, value in spec.items() if key != "name"}
    fields = arguments(SOURCES[name], given, path, _builder)
    try:
        return SOURCES[name](**fields)
    except X2LError as error:
        raise X2LError(f"{path}.{error}") from error


def _builder(kind: type):
    """The parts of a mixture are sources."""
    return make_source if kind is QASource else None
