"""Parts of the network that post-training changes, or adapters of low rank beside its weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import peft
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from x2l.engine.language_model import LanguageModelBackbone
from x2l.engine.reading import ReadingBackbone
from x2l.errors import X2LError, require, unknown

Part = Literal["all", "vst", "language_model", "projector", "tower", "lora"]

_BY_NAME = {
    "lora": r"\blora_",
    "vst": r"\bbeacon_",
    "projector": r"mm_projector|multi_modal_projector|connector|visual\.(deepstack_)?merger|\bsae\b",
    "tower": r"vision|visual",
}
"""A weight belongs to the first part whose pattern its name holds; the rest is the language model."""


@dataclass(frozen=True)
class LoRA:
    """Adapters of low rank on linear layers of the language model, by peft.

    targets: names of the layers; those of VSTs are called beacon_q_proj, beacon_k_proj, ...

    Source: LoRA (Hu et al., arXiv 2106.09685).
    Differs: no dropout, so that training computes what answering does.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])

    def check(self, path: str) -> None:
        """Raise X2LError naming the field under `path` that no adapter can have."""
        require(self.rank >= 1, f"{path}.rank", "1 or more", self.rank)
        require(bool(self.targets), f"{path}.targets", "at least one name of a linear layer", self.targets)


def part_of(name: str) -> Part:
    """The part of the network that a weight belongs to, by its name."""
    found = (part for part, pattern in _BY_NAME.items() if re.search(pattern, name))
    return next(found, "language_model")


def is_of_vst(name: str) -> bool:
    """Whether a weight is one of VSTs or an adapter on one."""
    return re.search(_BY_NAME["vst"], name) is not None


def make_trainable(backbone: LanguageModelBackbone, parts: Sequence[Part], lora: LoRA) -> None:
    """Let gradients reach these parts of the network and no others; "lora" adds adapters to it.

    What is trained is held in fp32: in half precision a small step would be rounded away.
    Raises X2LError for a backbone that is no LanguageModelBackbone, for a part that its network does not
    have, and for a target that none of its layers is.
    """
    if not isinstance(backbone, LanguageModelBackbone):
        raise X2LError(
            f"backbone: {type(backbone).__name__} cannot be trained, expected a LanguageModelBackbone"
        )
    if "lora" in parts:
        _add_adapters(backbone, lora)
    there = {part_of(name) for name, _ in backbone.model.named_parameters()}
    for part in parts:
        if part not in there and part != "all":
            raise X2LError(
                f"trains: this backbone has no {part}, expected some of {', '.join(sorted(there))}"
            )
    for name, parameter in backbone.model.named_parameters():
        parameter.requires_grad_(part_of(name) in parts or "all" in parts)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _add_adapters(backbone: LanguageModelBackbone, lora: LoRA) -> None:
    """Into the network itself: whoever holds it goes on holding it."""
    decoder = next(name for name, module in backbone.model.named_modules() if module is backbone.decoder)
    layers = backbone.decoder.layers.named_modules()
    linear = {name.rpartition(".")[2] for name, module in layers if isinstance(module, nn.Linear)}
    for target in lora.targets:
        if target not in linear:
            raise unknown(f"lora.targets: {target}", target, linear)
    names = "|".join(map(re.escape, lora.targets))
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=rf"{re.escape(decoder)}\.layers\.\d+\.(\w+\.)*({names})",
    )
    peft.inject_adapter_in_model(config, backbone.model)


def trained_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Weights that training changes, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def sees_change(backbone: LanguageModelBackbone) -> bool:
    """Whether training changes what the language model reads: visual tokens cannot be kept then.

    Some models read words between the frames.
    """
    reads_words = isinstance(backbone, ReadingBackbone)
    embeds_anew = backbone.model.get_input_embeddings().weight.requires_grad
    sees_anew = any(part_of(name) in ("tower", "projector") for name in trained_weights(backbone.model))
    return sees_anew or (reads_words and embeds_anew)


def merge_adapters(network: PreTrainedModel) -> None:
    """Add every adapter to the weights beside it and take it away: the network's layers are its own again."""
    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, module.get_base_layer())
