"""Weights that post-training changes: parts of the network, adapters, weights of other parts."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import peft
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from x2l import registry
from x2l.engine.language_model import LanguageModelBackbone
from x2l.errors import X2LError, require, unknown
from x2l.interfaces import Part
from x2l.pipeline import Pipeline
from x2l.weights import has_any

WITH_WEIGHTS = ("compressor", "oracle", "selector")
"""Slots whose parts may have weights of their own."""
_NETWORK = ("all", "lora", "language_model")
"""What can be trained of any network, besides the parts that its backbone tells apart."""


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


def trainable_parts(backbone: type) -> list[str]:
    """Names that `trains` may have for a class of backbones. "all" is its whole network."""
    return [*_NETWORK, *getattr(backbone, "network_parts", {}), *WITH_WEIGHTS]


def part_of(name: str, backbone: LanguageModelBackbone | type[LanguageModelBackbone]) -> str:
    """The part of the network that a weight belongs to, by its name: an adapter, or the first that fits."""
    patterns = {"lora": r"\blora_"} | dict(backbone.network_parts)
    found = (part for part, pattern in patterns.items() if re.search(pattern, name))
    return next(found, "language_model")


def is_of_vst(name: str, backbone: LanguageModelBackbone) -> bool:
    """Whether a weight is one of VSTs or an adapter on one."""
    pattern = backbone.network_parts.get("vst")
    return pattern is not None and re.search(pattern, name) is not None


def parts_with_weights(pipeline: Pipeline) -> dict[str, Part]:
    """The parts beside the backbone that have weights of their own, by slot."""
    parts = {slot: getattr(pipeline, slot) for slot in WITH_WEIGHTS}
    return {slot: part for slot, part in parts.items() if has_any(part.own_weights())}


def make_trainable(pipeline: Pipeline, trains: Sequence[str], lora: LoRA) -> None:
    """Let gradients reach what `trains` names and nothing else; "lora" adds adapters to the network.

    What is trained is held in fp32: in half precision a small step would be rounded away.
    Raises X2LError for a backbone that is no LanguageModelBackbone, for what the pipeline does not have, and
    for a target that no layer is. Warns of a part that has weights which were never trained and will not be.
    """
    backbone = pipeline.backbone
    if not isinstance(backbone, LanguageModelBackbone):
        raise X2LError(
            f"backbone: {type(backbone).__name__} cannot be trained, expected a LanguageModelBackbone"
        )
    if "lora" in trains:
        _add_adapters(backbone, lora)
    learned = parts_with_weights(pipeline)
    there = {part_of(name, backbone) for name, _ in backbone.model.named_parameters()} | {*learned}
    for part in trains:
        if part not in there and part != "all":
            raise X2LError(f"trains: nothing to train in {part}, expected some of {', '.join(sorted(there))}")
    for name, parameter in backbone.model.named_parameters():
        _learn(parameter, part_of(name, backbone) in trains or "all" in trains)
    for slot, part in learned.items():
        if slot not in trains and not part.weights_file:
            name = registry.name_of(type(part))
            warnings.warn(f"{slot} {name}: has weights that trains does not name, they stay", stacklevel=2)
        for parameter in part.own_weights().parameters():
            _learn(parameter, slot in trains and parameter.requires_grad)  # what a part froze stays so


def _learn(parameter: nn.Parameter, learns: bool) -> None:
    parameter.requires_grad_(learns)
    if learns:
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


def learned_state(module: nn.Module) -> list[str]:
    """Names of all that only this training knows: trained weights, and the whole state of other parts."""
    trained = trained_weights(module)
    return [name for name in module.state_dict() if name in trained or name.startswith("parts.")]


def sees_change(backbone: LanguageModelBackbone) -> bool:
    """Whether training changes what the language model reads: visual tokens cannot be kept then.

    Some models read words between the frames.
    """
    embeds_anew = backbone.model.get_input_embeddings().weight.requires_grad
    trained = trained_weights(backbone.model)
    unseen = {"language_model", "lora", "vst"}
    sees_anew = any(part_of(name, backbone) not in unseen for name in trained)
    return sees_anew or (backbone.reads_words and embeds_anew)


def merge_adapters(network: PreTrainedModel) -> None:
    """Add every adapter to the weights beside it and take it away: the network's layers are its own again."""
    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, module.get_base_layer())
