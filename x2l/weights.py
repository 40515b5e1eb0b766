"""Weights of a method's own: found in its attributes, loaded from safetensors, fingerprinted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from x2l.errors import X2LError


def collected(values: Mapping[str, Any]) -> nn.Module:
    """A module that holds the parameters and modules among `values`, and the weights of methods there."""
    holder = nn.Module()
    for name, value in values.items():
        if name.startswith("_"):
            continue
        if hasattr(holder, name) and isinstance(value, nn.Module | nn.Parameter):
            raise X2LError(f"weights: an attribute that holds some cannot be called {name}")
        if isinstance(value, nn.Parameter):
            holder.register_parameter(name, value)
        elif (inner := _module(value)) is not None and has_any(inner):
            holder.add_module(name, inner)
    return holder


def _module(value: Any) -> nn.Module | None:
    if isinstance(value, nn.Module):
        return value
    if hasattr(value, "own_weights"):
        return value.own_weights()
    if isinstance(value, list | tuple):
        return collected({str(i): item for i, item in enumerate(value)})
    if isinstance(value, Mapping):
        return collected({str(name).replace(".", "_"): item for name, item in value.items()})
    return None


def has_any(module: nn.Module) -> bool:
    """Whether a module holds any weight or buffer."""
    return bool(module.state_dict())


@torch.no_grad()
def fingerprint(module: nn.Module) -> str:
    """sha256 (16 hex digits) of every weight, with its name and type; empty without any."""
    if not has_any(module):
        return ""
    state = dict(sorted(module.state_dict(keep_vars=True).items()))
    versions = [(id(tensor), tensor._version) for tensor in state.values()]
    # Asked for with each question; hashed again only where a weight was changed in between.
    known = getattr(module, "_fingerprint", None)
    if known is None or known[0] != versions:
        known = module._fingerprint = versions, _digest(state)
    return known[1]


def _digest(state: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def load(module: nn.Module, path: str | Path, field: str) -> None:
    """Load all weights of a module, in place. Raises X2LError naming the field and what does not fit."""
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise X2LError(f"{field}: {path}: expected a safetensors file, {error}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    for name in sorted({*expected, *given}):
        if expected.get(name) != given.get(name):
            wanted, got = expected.get(name, "none"), given.get(name, "none")
            raise X2LError(f"{field}: {path}: {name}: expected {wanted}, got {got}")
    module.load_state_dict(stored)
