"""Scores of a Python function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Backbone, Oracle
from x2l.oracles._image_text import frames_of
from x2l.storage.hub import one_line
from x2l.types import Chunk, Question, VideoIndex, X2LError

Function = str | Callable[..., Any]
"""A Python function, or "module:function" in a recipe: a module that can be imported."""


@dataclass
class CallableOracle(Oracle):
    """What a Python function says: one number per chunk, or None to abstain.

    function: called once per question, function(question, index, features): the Question, the VideoIndex, and
        a list of what `look` made of each chunk (empty without).
    look: called once per chunk while indexing, look(frames): uint8 RGB [frames, height, width, 3]. Gives an
        array, of embeddings for example, which the index stores. None: nothing.

    In a recipe both are "module:function", where Python finds the module; nothing is downloaded. An index
    knows `look` by its name alone: index again when its code changes.

    Source: Video-X^2L (arXiv 2506.21184), section 3.4: any model that scores clips may be the oracle.
    Differs: the model is the user's.
    """

    not_prepared = frozenset({"function"})

    function: Function
    look: Function | None = None

    def __post_init__(self):
        self._score = _imported(self.function, "oracle.function")
        self._look = None if self.look is None else _imported(self.look, "oracle.look")
        self.function, self.look = _name(self._score), self._look and _name(self._look)

    def prepare(self, chunk: Chunk, backbone: Backbone) -> dict[str, Tensor]:
        """What `look` gives. Raises X2LError for a chunk without frames."""
        if self._look is None:
            return {}
        return {"look": torch.as_tensor(np.array(self._look(frames_of(chunk, "callable"))))}

    def score(
        self, question: Question, index: VideoIndex, backbone: Backbone
    ) -> Float[Tensor, " chunks"] | None:
        features = [stored["look"].numpy() for stored in self.features(index)] if self._look else []
        scores = self._score(question, index, features)
        return None if scores is None else torch.as_tensor(np.array(scores, dtype=np.float32))


def _imported(function: Function, field: str) -> Callable[..., Any]:
    """The function. Raises X2LError naming the field if it cannot be imported or called."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    if not (module and name):
        raise X2LError(f"{field}: expected module:function, got {function!r}")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever a user's module raises when it is imported
        raise X2LError(f"{field}: {function} cannot be imported, {one_line(error)}") from error
    if not callable(found):
        raise X2LError(f"{field}: {function}: expected a function, got {found!r}")
    return found


def _name(function: Callable[..., Any]) -> str:
    """As a recipe spells it; of what has no name of its own (a partial, say), that of its type."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"
