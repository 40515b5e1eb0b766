"""Loading a checkpoint folder, so that whatever is wrong with it is one clear line."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from x2l.backbones._video_xl_model import VideoXLConfig, VideoXLForCausalLM
from x2l.precision import FULL_NAMES
from x2l.types import X2LError

DTYPES = {
    name: getattr(torch, full_name)
    for short_name, full_name in FULL_NAMES.items()
    for name in (short_name, full_name)
}


def load_video_xl(
    model: str | None, device: str, dtype: str, attention: str
) -> tuple[VideoXLForCausalLM, PreTrainedTokenizerBase]:
    """Network and tokenizer of a checkpoint folder, from safetensors only.

    VST projections that the checkpoint lacks start as copies of the ordinary ones, and a missing VST
    embedding as that of the end-of-turn token. Source: Video-XL's own initialisation.
    Raises X2LError naming the folder and what is wrong: no checkpoint, damaged, other weights missing.
    """
    if model is None or not (Path(model) / "config.json").is_file():
        raise X2LError(f"backbone.model: {model!r} is not a checkpoint folder (no config.json in it)")
    if dtype not in DTYPES:
        raise X2LError(f"backbone.dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    require_device(device)
    try:
        config = VideoXLConfig.from_pretrained(model)
        network, report = VideoXLForCausalLM.from_pretrained(
            model,
            config=config,
            dtype=DTYPES[dtype],
            attn_implementation=attention,
            use_safetensors=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(model, config=config)
    except (OSError, SafetensorError, ValueError, ImportError, RuntimeError) as error:
        if isinstance(error, X2LError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise X2LError(f"backbone.model: {model} cannot be loaded, {reason}") from error
    _complete(network, set(report["missing_keys"]), model)
    return network.to(device), tokenizer


def require_device(name: str) -> None:
    """Raise X2LError if this machine does not have the device."""
    try:
        torch.empty(0, device=name)
    # torch raises AssertionError where it was built without CUDA.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        seen = f"the cpu and {torch.cuda.device_count()} CUDA devices"
        raise X2LError(f"device {name!r}: not available, this PyTorch sees {seen}") from error


@torch.no_grad()
def _complete(network: VideoXLForCausalLM, missing: set[str], model: str) -> None:
    lost = sorted(key for key in missing if "beacon_" not in key)
    if lost:
        raise X2LError(f"backbone.model: {model} lacks {len(lost)} weights, such as {lost[0]}")
    for key in missing:
        name, _, kind = key.rpartition(".")
        if name.endswith("beacon_embed_tokens"):
            eos = network.config.eos_token_id
            eos = eos[0] if isinstance(eos, list) else eos
            network.get_parameter(key).copy_(network.get_input_embeddings().weight[eos or 0])
        else:
            network.get_parameter(key).copy_(network.get_parameter(f"{name.replace('beacon_', '')}.{kind}"))
