"""The word-level tokenizer of the embedded model: it knows the words of needle questions and no others."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from x2l.needles.questions import TEMPLATES
from x2l.needles.world import BELL, CARD_COLOURS, FRAME_COLOURS, PATTERNS, SHAPES

UNKNOWN = "<unk>"
PADDING = "<pad>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIALS = (UNKNOWN, PADDING, TURN_START, TURN_END)

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML. Source: Video-XL's "qwen_1_5" conversation."""

_PIECES = r"\n|\d|[^\W\d]+|[^\w\s]"
"""A line end, a digit, a word or a punctuation mark; other white space only separates."""
_OTHER_WORDS = (
    "system user assistant You are a helpful assistant . , ? ! yes no day night 0 1 2 3 4 5 6 7 8 9 \n"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer: equal on every call, ids in alphabetical order behind the special tokens."""
    tokens = [*SPECIALS, *words()]
    core = Tokenizer(WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN))
    core.normalizer = Lowercase()
    core.pre_tokenizer = Split(Regex(_PIECES), behavior="removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=UNKNOWN,
        pad_token=PADDING,
        eos_token=TURN_END,
        extra_special_tokens=[TURN_START],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def words() -> list[str]:
    """Every word of the questions, answers and chat template, sorted."""
    return sorted({piece for text in _texts() for piece in re.findall(_PIECES, text.lower())})


def _texts() -> Iterable[str]:
    for phrasings in TEMPLATES.values():
        yield from (re.sub(r"\{\w+\}", " ", phrasing) for phrasing in phrasings)
    yield from (*FRAME_COLOURS, *PATTERNS, *CARD_COLOURS, *SHAPES, BELL, _OTHER_WORDS)
