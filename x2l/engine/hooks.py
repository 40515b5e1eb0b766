"""A look at what modules put out, while something else runs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def outputs_of(modules: Iterable[nn.Module]) -> Iterator[list[list[Tensor]]]:
    """Outputs of each module, call by call, until the context is left."""
    modules = list(modules)
    outputs: list[list[Tensor]] = [[] for _ in modules]
    hooks = [
        module.register_forward_hook(lambda _, given, output, calls=calls: calls.append(output))
        for module, calls in zip(modules, outputs, strict=True)
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
