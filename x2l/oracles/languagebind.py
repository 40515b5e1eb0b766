"""Likeness of the question and a chunk as a clip, in the space of a model that was trained on videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from transformers import CLIPConfig, CLIPTokenizer

from x2l.interfaces import Backbone, Oracle
from x2l.networks.languagebind import LanguageBindVideo
from x2l.oracles._checkpoint import fingerprint, frozen, loaded_from, require_none
from x2l.oracles._image_text import LEGACY_END, TextTower, frames_of
from x2l.preprocessing.pixels import CLIP_MEAN, CLIP_STD
from x2l.rounding import exact_convolutions, in_full_precision
from x2l.storage.files import read_json
from x2l.types import Chunk, Question, VideoIndex, X2LError

_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_act",
    "layer_norm_eps",
)
_TEXT_SIZES = (*_SIZES, "vocab_size", "max_position_embeddings")
_VISION_SIZES = (*_SIZES, "image_size", "patch_size")


@dataclass
class LanguageBind(Oracle):
    """Cosine of the question and each chunk by LanguageBind's video model: eight frames are one embedding.

    model: a checkpoint folder, or the name of a model on the hub. The published files are pickles, which are
        not read: docs/oracles.md tells how to convert one.
    device: where the model computes; None: where the backbone does.

    An index stores one embedding per chunk, a question costs one of a text: the question without its options,
    cut to 77 tokens. A chunk of fewer frames than the model sees repeats some.

    Source: Video-X^2L (arXiv 2506.21184), section 3.4, the default oracle; LanguageBind (arXiv 2310.01852).
    Differs: frames are cropped at the centre and never flipped, where the released code draws both at random,
    even to answer.
    """

    not_prepared = frozenset({"model", "device"})  # the weights themselves are in the key

    model: str = "LanguageBind/LanguageBind_Video_FT"
    device: str | None = None

    @property
    def identity(self) -> str:
        return fingerprint(self.model)

    def prepare(self, chunk: Chunk, backbone: Backbone) -> dict[str, Tensor]:
        """One embedding [dim] of the chunk. Raises X2LError for a chunk without frames."""
        frames = frames_of(chunk, "languagebind")
        return {"clip": self._towers(chunk.visual_tokens.device).embed_clip(frames)}

    def score(self, question: Question, index: VideoIndex, backbone: Backbone) -> Float[Tensor, " chunks"]:
        clips = torch.stack([stored["clip"].cpu() for stored in self.features(index)])
        with in_full_precision("cpu"):
            return clips @ self._towers(backbone.device).embed_text(question.text).cpu()

    def _towers(self, device: torch.device) -> Towers:
        return load(self.model, self.device or str(device))


class Towers(TextTower):
    """LanguageBind's towers for clips and texts, with one space of embeddings, all of length 1."""

    @torch.no_grad()
    def embed_clip(self, frames: UInt8[np.ndarray, "frames height width 3"]) -> Float[Tensor, " dim"]:
        chosen = frames[spread(len(frames), self.network.num_frames)]
        pixels = clip_pixels(chosen, self.network.config.vision_config.image_size).to(self.network.device)
        with exact_convolutions(), in_full_precision(self.network.device.type):
            return normalize(self.network.clip_features(pixels), dim=-1)[0]


def spread(num_frames: int, wanted: int) -> Int[np.ndarray, " wanted"]:
    """Numbers of evenly spread frames, the first and the last among them."""
    return np.linspace(0, num_frames - 1, wanted).astype(np.int64)


def clip_pixels(
    frames: UInt8[np.ndarray, "frames height width 3"], size: int
) -> Float[Tensor, "1 frames 3 size size"]:
    """The centre square of frames whose short side is resized (bilinear, without antialias), normalised."""
    pixels = rearrange(torch.from_numpy(frames), "t h w c -> t c h w").float() / 255
    height, width = (size * side // min(pixels.shape[2:]) for side in pixels.shape[2:])
    pixels = interpolate(pixels, (height, width), mode="bilinear", align_corners=False)
    top, left = round((height - size) / 2), round((width - size) / 2)
    square = pixels[..., top : top + size, left : left + size]
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return ((square - mean) / std)[None]


@cache
def load(model: str, device: str) -> Towers:
    """The towers of a checkpoint folder or a model on the hub: safetensors only, every weight used, in fp32.

    Raises X2LError naming the model and what is wrong: not found, another kind, damaged, incomplete.
    """
    with loaded_from(model, "oracle.model") as folder:
        network = _network(folder)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        if tokenizer("")["input_ids"][-1:] != [network.config.text_config.vocab_size - 1]:
            raise X2LError("its tokenizer does not end a text with the highest id, where CLIP reads it off")
    return Towers(frozen(network, device), tokenizer)


def _network(folder: Path) -> LanguageBindVideo:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise X2LError("it holds no safetensors (docs/oracles.md tells how to convert a published model)")
    weights = {key: tensor.float() for path in files for key, tensor in load_file(path).items()}
    weights = {key: tensor for key, tensor in weights.items() if not key.endswith("position_ids")}
    in_time = weights.get("vision_model.encoder.layers.0.temporal_embedding")
    if in_time is None:
        raise X2LError("it has no temporal attention, expected a video model of LanguageBind")
    patches = weights.get("vision_model.embeddings.patch_embedding.weight", torch.empty(1, 1, 1, 1))
    if patches.ndim != 4:
        raise X2LError("its patches span several frames (clip_type vl_new), expected patches of one frame")
    network = LanguageBindVideo(_config(read_json(folder / "config.json")), in_time.shape[1])
    missing, unexpected = network.load_state_dict(weights, strict=False)
    require_none(missing, "lacks")
    require_none(unexpected, "also holds")
    return network


def _config(stored: Mapping[str, Any]) -> CLIPConfig:
    """CLIP's configuration from LanguageBind's. The ids of special tokens that it states are wrong."""
    text, vision = (
        {name: stored[part][name] for name in names if name in stored[part]}
        for part, names in (("text_config", _TEXT_SIZES), ("vision_config", _VISION_SIZES))
    )
    return CLIPConfig(
        text_config=text | {"eos_token_id": LEGACY_END},
        vision_config=vision,
        projection_dim=stored["projection_dim"],
    )
