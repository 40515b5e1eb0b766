"""Whether a folder holds one model: its weights, its tokenizer and its chat template fit each other."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

from transformers import PretrainedConfig

from x2l.engine.language_model import LanguageModelBackbone
from x2l.engine.stock import StockBackbone
from x2l.errors import X2LError
from x2l.verification.subject import Subject

_NAMES_A_TOKEN = re.compile(r"^(?!pad_|bos_).*_token_(id|index)$")
"""Fields of config.json with the id of a token that a video model reads; of two, some releases name none."""


def weights(subject: Subject) -> str:
    """Everything in the folder is read, and fits."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        backbone = subject.backbone
    for warning in told:
        if str(warning.message).startswith("backbone.model: "):
            raise X2LError(str(warning.message))
    parameters = list(backbone.model.parameters())
    count = sum(parameter.numel() for parameter in parameters)
    return f"{backbone.identity}: {len(parameters)} tensors of {count:,} weights, none missing or left over"


def tokenizer(subject: Subject) -> str:
    """Every token has an embedding, and the tokens that the model names are the tokenizer's own."""
    backbone = subject.backbone
    words, config = backbone.tokenizer, backbone.model.config
    embedded = len(backbone.model.get_input_embeddings().weight)
    if len(words) > embedded:
        raise X2LError(f"the tokenizer knows {len(words):,} tokens, the model embeds {embedded:,}")
    named = _named_tokens(config)
    for field, number in named.items():
        if number not in words.added_tokens_decoder:
            token = words.convert_ids_to_tokens(number) if number < len(words) else None
            raise X2LError(f"config.json: {field} is {number}, to the tokenizer {token!r}, no special token")
    _require_end(backbone)
    if isinstance(backbone, StockBackbone):
        _require_placeholder(backbone)
    return f"{len(words):,} tokens, {embedded:,} embedded; it has the {len(named)} that the model names"


def prompt(subject: Subject) -> str:
    """The text around the video holds the question, once it is tokenised and back."""
    backbone, asked = subject.backbone, subject.question.text
    before = backbone.prompt_ids(subject.clip.video)
    if not len(before):
        raise X2LError("the chat template puts nothing in front of the video")
    said = backbone.tokenizer.decode(subject.ids)
    if _letters(asked) not in _letters(said):
        raise X2LError(f"the chat template lost the question {asked!r}, behind the video it says {said!r}")
    return f"{len(before)} tokens in front of the video, {len(subject.ids)} behind it with the question"


def _named_tokens(config: PretrainedConfig) -> Mapping[str, int]:
    """Ids of special tokens by the field that names them. A negative one is of no token (LLaVA's image)."""
    fields = config.to_dict().items()
    named = {name: value for name, value in fields if _NAMES_A_TOKEN.match(name)}
    return {name: value for name, value in named.items() if isinstance(value, int) and value >= 0}


def _require_end(backbone: LanguageModelBackbone) -> None:
    """The token that ends the tokenizer's turns is one that generate() stops at, where the model says."""
    stops = backbone.model.generation_config.eos_token_id
    stops, end = [stops] if isinstance(stops, int) else stops, backbone.tokenizer.eos_token_id
    if stops and end not in stops:
        expected = ", ".join(map(str, stops))
        raise X2LError(f"the tokenizer ends a turn with token {end}, the model stops at {expected}")


def _require_placeholder(backbone: StockBackbone) -> None:
    """What stands for the video is one token, and the one that the model says."""
    ids, text = backbone.encode_text(backbone.placeholder).tolist(), backbone.placeholder
    if len(ids) != 1:
        raise X2LError(f"the tokenizer does not know {text}, which stands for the video")
    expected = getattr(backbone.model.config, "video_token_id", None)
    if expected is not None and ids != [expected]:
        raise X2LError(f"{text} is token {ids[0]} to the tokenizer, video_token_id in config.json {expected}")


def _letters(text: str) -> str:
    """Without case and white space, which a tokenizer of words does not keep."""
    return "".join(text.split()).casefold()
