"""Adapters of peft: a folder of them is a model, that of its base with the adapters merged into it."""

from __future__ import annotations

import warnings
from pathlib import Path

from transformers import PreTrainedModel

from x2l.storage.files import read_json
from x2l.storage.fingerprint import ADAPTER_CONFIG, adapter_fingerprint
from x2l.storage.hub import checkpoint_folder, one_line
from x2l.types import X2LError

_WEIGHTS = "adapter_model.safetensors"
_FIELD = "backbone.model"
_BASE = "base_model_name_or_path"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters and no whole model."""
    return (folder / ADAPTER_CONFIG).is_file() and not any(folder.glob("model*.safetensors"))


def base_of(folder: Path) -> Path:
    """The checkpoint that adapters were made of; one of a whole model itself.

    Raises X2LError if the base is not named or not found.
    """
    if not is_adapter(folder):
        return folder
    base, where = read_json(folder / ADAPTER_CONFIG).get(_BASE), f"{_FIELD}: {_BASE} of {folder}"
    if not isinstance(base, str) or not base:
        raise X2LError(f"{where}: expected the model that the adapters were made of, got {base!r}")
    return checkpoint_folder(base, where)


def merged(network: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base with the adapters in `folder` merged into it; as it is where they are none.

    Raises X2LError if they are not safetensors, not to be merged, or do not fit.
    """
    if not is_adapter(folder):
        return network
    if not (folder / _WEIGHTS).is_file():
        raise X2LError(f"{_FIELD}: {folder} lacks {_WEIGHTS}, adapters are read from safetensors only")
    from peft import PeftConfig, PeftModel  # seconds, which a whole model does not need

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what does not fit is refused below
            adapted = PeftModel(network, PeftConfig.from_pretrained(folder))
            report = adapted.load_adapter(folder, "default", torch_device="cpu")
            whole = adapted.merge_and_unload()
    except Exception as error:  # whatever peft raises
        raise X2LError(f"{_FIELD}: {folder} cannot be merged into its base, {one_line(error)}") from error
    if odd := [*report.missing_keys, *report.unexpected_keys]:
        raise X2LError(f"{_FIELD}: {folder} does not fit its base, {len(odd)} weights such as {min(odd)}")
    return whole


def adapter_identity(folder: Path) -> str:
    """Added to the identity of the base; empty where there are no adapters."""
    return f", adapter {adapter_fingerprint(folder)}" if is_adapter(folder) else ""
