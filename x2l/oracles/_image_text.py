"""Stock image-text models: how each family was trained to see and to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize
from transformers import (
    AutoConfig,
    AutoModel,
    BlipForImageTextRetrieval,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from x2l.oracles._checkpoint import frozen, loaded_from, stock_network, stock_tokenizer
from x2l.preprocessing.pixels import CLIP_MEAN, CLIP_STD, Preprocessing
from x2l.rounding import exact_convolutions, in_full_precision
from x2l.storage.hub import processor_settings
from x2l.types import Chunk, X2LError

FRAMES_PER_BATCH = 32
LEGACY_END = 2
"""End token by CLIP's first configurations: transformers then takes the highest id of a text."""
Pool = Literal["mean", "max", "top2_mean"]
"""How the scores of a chunk's frames become one; "top2_mean" is the mean of the two highest."""
Inputs = Callable[[UInt8[np.ndarray, "frames height width 3"], torch.device], Mapping[str, Tensor]]
"""From frames to what a tower on the device reads, by the names of its arguments."""


@dataclass(frozen=True)
class TextTower:
    """The text side of a model that embeds texts and something else in one space; all are of length 1."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @torch.no_grad()
    def embed_text(self, text: str) -> Float[Tensor, " dim"]:
        """Embedding of a text, of as many tokens as the model reads."""
        with in_full_precision(self.network.device.type):
            return normalize(self.text_features(self.ids(text)), dim=-1)[0]

    def ids(self, text: str) -> Int[Tensor, "1 tokens"]:
        family, config = FAMILIES[self.network.config.model_type], self.network.config
        encoded = self.tokenizer(
            text.lower() if family.lower_case else text,
            padding=family.padding,
            padding_side="right",
            truncation=True,
            max_length=config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        return encoded["input_ids"].to(self.network.device)

    def text_features(self, ids: Int[Tensor, "texts tokens"]) -> Float[Tensor, "texts dim"]:
        return self.network.get_text_features(ids).pooler_output


@dataclass(frozen=True)
class ImageText(TextTower):
    """An image tower and a text tower with one space of embeddings, all of length 1."""

    inputs: Inputs

    @torch.no_grad()
    def embed_frames(self, frames: UInt8[np.ndarray, "frames height width 3"]) -> Float[Tensor, "frames dim"]:
        return normalize(self.by_frame(frames, self.image_features), dim=-1)

    def by_frame(
        self, frames: UInt8[np.ndarray, "frames height width 3"], see: Callable[..., Tensor]
    ) -> Float[Tensor, "frames *features"]:
        """What a tower sees in each frame, computed in bounded batches."""
        batches = np.split(frames, range(FRAMES_PER_BATCH, len(frames), FRAMES_PER_BATCH))
        device = self.network.device
        with exact_convolutions(), in_full_precision(device.type):
            return torch.cat([see(**self.inputs(batch, device)) for batch in batches])

    def image_features(self, **inputs: Tensor) -> Float[Tensor, "frames dim"]:
        return self.network.get_image_features(**inputs).pooler_output


class BlipImageText(ImageText):
    """BLIP's two towers: the projections that its contrastive loss (ITC) compares."""

    def image_features(self, **inputs: Tensor) -> Float[Tensor, "frames dim"]:
        return self.network.vision_proj(self.network.vision_model(**inputs).last_hidden_state[:, 0])

    def text_features(self, ids: Int[Tensor, "texts tokens"]) -> Float[Tensor, "texts dim"]:
        return self.network.text_proj(self.network.text_encoder(ids).last_hidden_state[:, 0])


class Family(NamedTuple):
    """The way that models of one type were trained to see and to read."""

    crop: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    padding: str
    lower_case: bool
    towers: type[ImageText] = ImageText
    network: type = AutoModel


HALF = (0.5, 0.5, 0.5)
FAMILIES = {
    "clip": Family(True, CLIP_MEAN, CLIP_STD, padding="longest", lower_case=False),
    # Trained without a mask on texts padded to the full length; SigLIP 2's tokenizer leaves the case alone.
    "siglip": Family(False, HALF, HALF, padding="max_length", lower_case=True),
    "siglip2": Family(False, HALF, HALF, padding="max_length", lower_case=True),
    "blip": Family(False, CLIP_MEAN, CLIP_STD, "longest", False, BlipImageText, BlipForImageTextRetrieval),
}
"""By the `model_type` of config.json. Of SigLIP 2 only NaFlex models say "siglip2", the others "siglip"."""


@cache
def load(model: str, device: str, types: tuple[str, ...] = tuple(FAMILIES)) -> ImageText:
    """An image-text model from a checkpoint folder or the hub: safetensors only, no code, in fp32.

    types: which of the families are expected.
    Raises X2LError naming the model and what is wrong: not found, another kind, damaged, incomplete.
    """
    with loaded_from(model, "oracle.model") as folder:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if config.model_type not in types:
            raise X2LError(f"its type is {config.model_type}, expected one of {', '.join(types)}")
        family = FAMILIES[config.model_type]
        network = stock_network(folder, config, family.network)
        tokenizer = stock_tokenizer(folder, config)
        if config.model_type == "clip":
            _check_end(tokenizer, config.text_config.eos_token_id)
        inputs = _patches(folder) if config.model_type == "siglip2" else _pixels(folder, config)
    return family.towers(frozen(network, device), tokenizer, inputs)


def _check_end(tokenizer: PreTrainedTokenizerBase, end: int) -> None:
    """Refuse texts without the end at which CLIP reads them off: all would be embedded alike."""
    if end != LEGACY_END and end not in tokenizer("")["input_ids"]:
        raise X2LError(f"text_config.eos_token_id is {end}, which its tokenizer does not end a text with")


def _pixels(folder: Path, config: Any) -> Inputs:
    """Squares as the checkpoint says; what it leaves out is that of its family."""
    family, size = FAMILIES[config.model_type], config.vision_config.image_size
    given = processor_settings(folder, "image")
    resized = given.get("size", size)
    short_side = resized.get("shortest_edge", size) if isinstance(resized, dict) else resized
    preprocessing = Preprocessing(
        size,
        short_side if given.get("do_center_crop", family.crop) else None,
        tuple(given.get("image_mean", family.mean)),
        tuple(given.get("image_std", family.std)),
        given.get("resample", Preprocessing.resample),
    )
    return lambda frames, device: {"pixel_values": preprocessing(frames, device)}


def _patches(folder: Path) -> Inputs:
    """Patches of frames in their own shape, as NaFlex models read them."""
    processor = Siglip2ImageProcessorPil(**processor_settings(folder, "image"))
    return lambda frames, device: processor(images=list(frames), return_tensors="pt").to(device)


def frames_of(chunk: Chunk, oracle: str) -> UInt8[np.ndarray, "frames height width 3"]:
    """The frames of a chunk. Raises X2LError for a chunk without, naming the oracle that looks at them."""
    if chunk.frames is None:
        raise X2LError(f"oracle {oracle}: chunk {chunk.index} holds no frames, only visual tokens")
    return chunk.frames


def pooled(frame_scores: Float[Tensor, " frames"], pool: Pool) -> Float[Tensor, ""]:
    """The score of a chunk from those of its frames."""
    if pool == "top2_mean":
        return frame_scores.topk(min(2, len(frame_scores))).values.mean()
    return getattr(frame_scores, pool)()
