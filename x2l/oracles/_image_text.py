"""Stock image-text models, loaded so that whatever is wrong with a checkpoint is one clear line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from x2l.preprocessing.pixels import CLIP_MEAN, CLIP_STD, Preprocessing
from x2l.rounding import exact_convolutions, in_full_precision
from x2l.storage.fingerprint import checkpoint_fingerprint
from x2l.storage.hub import checkpoint_folder, one_line, processor_settings
from x2l.types import X2LError

FRAMES_PER_BATCH = 32
LEGACY_END = 2
"""End token by CLIP's first configurations: transformers then takes the highest id of a text."""


class Family(NamedTuple):
    """The way that models of one type were trained to see and to read."""

    crop: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    padding: str
    lower_case: bool


FAMILIES = {
    "clip": Family(True, CLIP_MEAN, CLIP_STD, padding="longest", lower_case=False),
    # Trained without a mask on texts padded to the full length; SigLIP 2's tokenizer leaves the case alone.
    "siglip": Family(False, (0.5,) * 3, (0.5,) * 3, padding="max_length", lower_case=True),
}
"""By the `model_type` of config.json; the fixed-size SigLIP 2 models call themselves "siglip" too."""


@dataclass(frozen=True)
class ImageText:
    """An image tower and a text tower with one space of embeddings, all of length 1."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    preprocessing: Preprocessing

    @torch.no_grad()
    def embed_frames(self, frames: UInt8[np.ndarray, "frames height width 3"]) -> Float[Tensor, "frames dim"]:
        batches = np.split(frames, range(FRAMES_PER_BATCH, len(frames), FRAMES_PER_BATCH))
        with exact_convolutions(), in_full_precision(self.network.device.type):
            embedded = [
                self.network.get_image_features(
                    self.preprocessing(batch).to(self.network.device)
                ).pooler_output
                for batch in batches
            ]
        return normalize(torch.cat(embedded), dim=-1)

    @torch.no_grad()
    def embed_text(self, text: str) -> Float[Tensor, " dim"]:
        """Embedding of a text, of as many tokens as the model reads."""
        family, config = FAMILIES[self.network.config.model_type], self.network.config
        ids = self.tokenizer(
            text.lower() if family.lower_case else text,
            padding=family.padding,
            padding_side="right",
            truncation=True,
            max_length=config.text_config.max_position_embeddings,
            return_tensors="pt",
        )["input_ids"]
        with in_full_precision(self.network.device.type):
            features = self.network.get_text_features(ids.to(self.network.device)).pooler_output
        return normalize(features, dim=-1)[0]


@cache
def load(model: str, device: str) -> ImageText:
    """A CLIP or SigLIP from a checkpoint folder or the hub: safetensors only, no code, in fp32.

    Raises X2LError naming the model and what is wrong: not found, another kind, damaged, incomplete.
    """
    folder = checkpoint_folder(model, "oracle.model")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if config.model_type not in FAMILIES:
            raise X2LError(f"its type is {config.model_type}, expected one of {', '.join(FAMILIES)}")
        network = _network(folder, config)
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=config, trust_remote_code=False, local_files_only=True
        )
        _check_tokenizer(tokenizer, config)
        preprocessing = _preprocessing(folder, config)
    except Exception as error:  # a damaged file fails wherever it is read
        raise X2LError(f"oracle.model: {model} cannot be loaded, {one_line(error)}") from error
    return ImageText(_on_device(network, device), tokenizer, preprocessing)


@cache
def fingerprint(model: str) -> str:
    """Fingerprint of a checkpoint's weights, in hex digits. Raises X2LError if it cannot be read."""
    folder = checkpoint_folder(model, "oracle.model")
    try:
        return checkpoint_fingerprint(folder)
    except (OSError, ValueError) as error:
        raise X2LError(f"oracle.model: {model} cannot be loaded, {one_line(error)}") from error


def _network(folder: Path, config: Any) -> PreTrainedModel:
    network, report = AutoModel.from_pretrained(
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
        if keys:
            raise X2LError(f"it {verb} {len(keys)} weights, such as {min(keys)}")
    return network.eval().requires_grad_(False)


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, config: Any) -> None:
    """Refuse what transformers lets through: an empty tokenizer where there is none, texts without an end."""
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise X2LError("its tokenizer knows no words")
    end = config.text_config.eos_token_id
    if config.model_type == "clip" and end != LEGACY_END and end not in tokenizer("")["input_ids"]:
        raise X2LError(f"text_config.eos_token_id is {end}, which its tokenizer does not end a text with")


def _preprocessing(folder: Path, config: Any) -> Preprocessing:
    """Preprocessing as the checkpoint says; what it leaves out is that of its family."""
    family, size = FAMILIES[config.model_type], config.vision_config.image_size
    given = processor_settings(folder, "image")
    resized = given.get("size", size)
    short_side = resized.get("shortest_edge", size) if isinstance(resized, dict) else resized
    return Preprocessing(
        size,
        short_side if given.get("do_center_crop", family.crop) else None,
        tuple(given.get("image_mean", family.mean)),
        tuple(given.get("image_std", family.std)),
        given.get("resample", Preprocessing.resample),
    )


def _on_device(network: PreTrainedModel, device: str) -> PreTrainedModel:
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        raise X2LError(f"oracle.device: {device!r} cannot be used, {one_line(error)}") from error
