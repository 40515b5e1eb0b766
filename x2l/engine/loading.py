"""Loading a checkpoint folder, so that whatever is wrong with it is one clear line."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from x2l.config.settings import value_at
from x2l.engine.adapters import adapter_identity, base_of, merged
from x2l.networks.video_xl import VideoXLForCausalLM
from x2l.networks.video_xl_2 import VideoXL2ForCausalLM
from x2l.precision import DTYPES
from x2l.storage.fingerprint import checkpoint_fingerprint
from x2l.storage.hub import checkpoint_folder, one_line, processor_settings
from x2l.types import X2LError

TOWER = "model.vision_tower.vision_tower."


def load_video_xl(
    model: str | None, device: str, dtype: str, attention: str
) -> tuple[VideoXLForCausalLM, PreTrainedTokenizerBase]:
    """Network and tokenizer of a Video-XL checkpoint folder, from safetensors only.

    VST projections that the checkpoint lacks start as copies of the ordinary ones, and a missing VST
    embedding as that of the token that `beacon_embed_init` names (eos, the end of a turn, or bos). Source:
    Video-XL's own initialisation.
    Raises X2LError naming the folder and what is wrong: no checkpoint, damaged, other weights missing.
    """
    network, tokenizer, missing = _load(model, VideoXLForCausalLM, device, dtype, attention)
    _require_none([key for key in missing if "beacon_" not in key], "lacks", model)
    _start_vsts(network, missing)
    return merged(network, Path(model)).to(device), tokenizer


def load_video_xl_2(
    model: str, device: str, dtype: str, attention: str
) -> tuple[VideoXL2ForCausalLM, PreTrainedTokenizerBase]:
    """Network and tokenizer of a Video-XL-2 checkpoint folder, as `load_video_xl`."""
    network, tokenizer, missing = _load(model, VideoXL2ForCausalLM, device, dtype, attention)
    _require_none(missing, "lacks", model)
    return merged(network, Path(model)).to(device), tokenizer


Network = TypeVar("Network", bound=PreTrainedModel)

_TOLERATED = re.compile(r"\.(position_ids|inv_freq)$|^model\.vision_tower\..*\.(head|post_layernorm)\.")
"""Weights that a released folder may hold besides: buffers, and parts of the tower that nothing reads."""


def _load(
    model: str | None, network_class: type[Network], device: str, dtype: str, attention: str
) -> tuple[Network, PreTrainedTokenizerBase, list[str]]:
    """Network, tokenizer and the keys that the folder lacks.

    A tower that the folder does not hold is read from where its `mm_vision_tower` says.
    Raises X2LError for keys that nothing reads.
    """
    if model is not None:
        model = str(base_of(Path(model)))
    if model is None or not (Path(model) / "config.json").is_file():
        raise X2LError(f"backbone.model: {model!r} is not a checkpoint folder (no config.json in it)")
    check_dtype(dtype)
    require_device(device)
    try:
        config = network_class.config_class.from_pretrained(model)
        how = _how(config, dtype, attention)
        network, report = network_class.from_pretrained(model, **how)
        tokenizer = AutoTokenizer.from_pretrained(model, config=config)
        missing = _with_tower(network, sorted(report["missing_keys"]))
    except (OSError, SafetensorError, ValueError, ImportError, RuntimeError) as error:
        if isinstance(error, X2LError):
            raise
        raise X2LError(f"backbone.model: {model} cannot be loaded, {one_line(error)}") from error
    _require_sizes(report, model)
    unexpected = [key for key in report["unexpected_keys"] if not _TOLERATED.search(key)]
    _require_none(unexpected, "also holds", model)
    return network, tokenizer, missing


def _how(config: PretrainedConfig, dtype: str, attention: str) -> dict[str, Any]:
    """Options that every network is loaded with: from safetensors only, telling which weights are missing."""
    return {
        "config": config,
        "dtype": getattr(torch, DTYPES[dtype]),
        "attn_implementation": attention,
        "use_safetensors": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # `_require_sizes` names them
    }


def _require_sizes(report: Mapping[str, Any], model: str) -> None:
    if mismatched := sorted(report["mismatched_keys"]):
        name, stored, expected = mismatched[0]
        such = f"such as {name}, {list(stored)} where its config.json says {list(expected)}"
        raise X2LError(f"backbone.model: {model} holds {len(mismatched)} weights of other sizes, {such}")


def _require_none(keys: Collection[str], verb: str, model: str) -> None:
    if keys:
        raise X2LError(f"backbone.model: {model} {verb} {len(keys)} weights: {', '.join(sorted(keys))}")


def _with_tower(network: PreTrainedModel, missing: list[str]) -> list[str]:
    """Fill a missing vision tower from the checkpoint that the configuration names; what is still missing."""
    source = getattr(network.config, "mm_vision_tower", None)
    absent = [key for key in missing if key.startswith(TOWER)]
    if not (source and absent):
        return missing
    folder = checkpoint_folder(source, "mm_vision_tower")
    stored = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = [key for key in file.keys() if key.startswith("vision_model.")]  # noqa: SIM118, not a dict
            stored |= {name: file.get_tensor(name) for name in names}
    with torch.no_grad():
        for key in absent:
            if (name := key.removeprefix(TOWER)) in stored:
                network.get_parameter(key).copy_(stored[name])
    network.tower_fingerprint = checkpoint_fingerprint(folder)
    return [key for key in missing if key.removeprefix(TOWER) not in stored]


def identity_of(network: PreTrainedModel, model: str) -> str:
    """Equal wherever the same weights lie: of a folder, and of the tower that was read from elsewhere."""
    tower = getattr(network, "tower_fingerprint", None)
    folder = base_of(Path(model))
    weights = f"{network.config.model_type}@{checkpoint_fingerprint(folder)}"
    return weights + (f", tower {tower}" if tower else "") + adapter_identity(Path(model))


def load_stock(
    model: str, family: StockFamily, device: str, dtype: str, attention: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any], str]:
    """Network, tokenizer, settings of the video processor and identity of a checkpoint of transformers.

    model: a checkpoint folder or the name of a model on the hub; of adapters on their base, too.
    Warns of weights that nothing reads. Raises X2LError naming the model and what is wrong: not found, of
    another type, damaged, incomplete, of other sizes.
    """
    check_dtype(dtype)
    require_device(device)
    given = checkpoint_folder(model, "backbone.model")
    folder = base_of(given)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if config.model_type not in family.model_types:
            expected = ", ".join(sorted(family.model_types))
            raise X2LError(f"its type is {config.model_type}, expected {expected}")
        network, report = AutoModelForImageTextToText.from_pretrained(
            folder, **_how(config, dtype, attention), trust_remote_code=False, local_files_only=True
        )
        if missing := report["missing_keys"]:
            raise X2LError(f"it lacks {len(missing)} weights, such as {min(missing)}")
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer.chat_template = _chat_template(folder, tokenizer)
        settings = processor_settings(folder, "video")
        if lacking := [name for name in family.needed_settings if not _has(settings, name)]:
            raise X2LError(f"the settings of its video processor lack {', '.join(lacking)}")
        identity = _identity(folder, config.model_type, settings, tokenizer.chat_template)
        identity += adapter_identity(given)
    except Exception as error:  # a damaged file fails wherever it is read
        raise X2LError(f"backbone.model: {model} cannot be loaded, {one_line(error)}") from error
    _require_sizes(report, model)
    if unread := [key for key in report["unexpected_keys"] if not _TOLERATED.search(key)]:
        held = f"{len(unread)} weights that nothing reads, such as {min(unread)}"
        warnings.warn(f"backbone.model: {model} also holds {held}", stacklevel=3)
    network = merged(network, given)
    return network.to(device), tokenizer, settings, identity


@runtime_checkable
class StockFamily(Protocol):
    """Demands of a class of stock models on a checkpoint."""

    model_types: frozenset[str]
    needed_settings: tuple[str, ...]


def _has(settings: Mapping[str, Any], names: str) -> bool:
    """Whether a setting is there by its dotted name; "a|b": by one of them."""
    return any(value_at(settings, name) is not None for name in names.split("|"))


def _chat_template(folder: Path, tokenizer: PreTrainedTokenizerBase) -> str:
    """The processor's, where it is kept apart as it used to be, else the tokenizer's."""
    apart = folder / "chat_template.json"
    if apart.is_file() and not (folder / "chat_template.jinja").is_file():
        return json.loads(apart.read_text(encoding="utf-8"))["chat_template"]
    if not tokenizer.chat_template:
        raise X2LError("it has no chat template")
    return tokenizer.chat_template


def _identity(folder: Path, model_type: str, *decisive: Any) -> str:
    """Equal wherever the same weights lie, if they see and are prompted alike."""
    weights = checkpoint_fingerprint(folder)
    rest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]
    return f"{model_type}@{weights}.{rest}"


def check_dtype(name: str) -> None:
    """Raise X2LError for a name that no precision has."""
    if name not in DTYPES:
        raise X2LError(f"backbone.dtype: expected one of {', '.join(DTYPES)}, got {name!r}")


def require_device(name: str) -> None:
    """Raise X2LError if this machine does not have the device."""
    try:
        torch.empty(0, device=name)
    # torch raises AssertionError where it was built without CUDA.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        seen = f"the cpu and {torch.cuda.device_count()} CUDA devices"
        raise X2LError(f"device {name!r}: not available, this PyTorch sees {seen}") from error


@torch.no_grad()
def _start_vsts(network: VideoXLForCausalLM, missing: Collection[str]) -> None:
    for key in missing:
        name, _, kind = key.rpartition(".")
        if name.endswith("beacon_embed_tokens"):
            first = _first_vst(network.config)
            network.get_parameter(key).copy_(network.get_input_embeddings().weight[first])
        else:
            network.get_parameter(key).copy_(network.get_parameter(f"{name.replace('beacon_', '')}.{kind}"))


def _first_vst(config: PretrainedConfig) -> int:
    """The token whose embedding a missing VST embedding starts as. Raises X2LError where there is none."""
    kind = getattr(config, "beacon_embed_init", "eos")
    if kind not in ("eos", "bos"):
        raise X2LError(f"backbone.model: beacon_embed_init: expected eos or bos, got {kind!r}")
    token = getattr(config, f"{kind}_token_id")
    if token is None:
        raise X2LError(f"backbone.model: {kind}_token_id: expected the id of a token, got None")
    return token[0] if isinstance(token, list) else token
