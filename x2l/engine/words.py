"""Words that a tokenizer knows, and those of a text that it does not."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase


def unknown_words(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The words of `text` that a fast tokenizer maps to its unknown token; none if it has no such token."""
    if tokenizer.unk_token_id is None:
        return []
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [text[start:end] for i, (start, end) in pairs if i == tokenizer.unk_token_id]


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> str:
    """How many words a tokenizer knows, and the file that lists them."""
    file = Path(tokenizer.name_or_path, "tokenizer.json")
    return f"{len(tokenizer)} words" + (f", listed in {file}" if file.is_file() else "")
