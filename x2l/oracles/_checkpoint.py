"""Checkpoints that oracles read, loaded so that whatever is wrong with one is one clear line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from x2l.storage.fingerprint import checkpoint_fingerprint
from x2l.storage.hub import checkpoint_folder, one_line
from x2l.types import X2LError

Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def loaded_from(model: str, field: str) -> Iterator[Path]:
    """The folder of a checkpoint, given by `field` as a path or a name on the hub.

    Raises X2LError naming field and model, for all that is raised meanwhile: a damaged file fails wherever it
    is read.
    """
    folder = checkpoint_folder(model, field)
    try:
        yield folder
    except Exception as error:
        raise X2LError(f"{field}: {model} cannot be loaded, {one_line(error)}") from error


@cache
def fingerprint(model: str, field: str = "oracle.model") -> str:
    """Fingerprint of a checkpoint's weights, in hex digits. Raises X2LError if it cannot be read."""
    with loaded_from(model, field) as folder:
        return checkpoint_fingerprint(folder)


def stock_network(
    folder: Path, config: Any, auto: type = AutoModel, tolerated: tuple[str, ...] = ()
) -> PreTrainedModel:
    """A network of transformers in fp32: safetensors only, no code.

    Raises X2LError for weights that the folder lacks or holds besides, unless their names begin as tolerated.
    """
    network, report = auto.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    # More weights than the class has is another model, such as LanguageBind's video tower.
    for verb, keys in (("lacks", report["missing_keys"]), ("also holds", report["unexpected_keys"])):
        require_none([key for key in keys if not key.startswith(tolerated)], verb)
    return network


def require_none(keys: Collection[str], verb: str) -> None:
    """Raise X2LError if there are keys that a checkpoint "lacks" or "also holds"."""
    if keys:
        raise X2LError(f"it {verb} {len(keys)} weights, such as {min(keys)}")


def stock_tokenizer(folder: Path, config: Any) -> PreTrainedTokenizerBase:
    """A tokenizer of transformers; it makes an empty one where there is none: raises X2LError then."""
    tokenizer = AutoTokenizer.from_pretrained(
        folder, config=config, trust_remote_code=False, local_files_only=True
    )
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise X2LError("its tokenizer knows no words")
    return tokenizer


def frozen(network: Network, device: str) -> Network:
    """The network without gradients, on a device. Raises X2LError if that cannot be used."""
    try:
        return network.eval().requires_grad_(False).to(device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        raise X2LError(f"oracle.device: {device!r} cannot be used, {one_line(error)}") from error
