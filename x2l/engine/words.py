"""Words of a text that a tokenizer does not know."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase


def unknown_words(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The words of `text` that a fast tokenizer maps to its unknown token; none if it has no such token."""
    if tokenizer.unk_token_id is None:
        return []
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [text[start:end] for i, (start, end) in pairs if i == tokenizer.unk_token_id]
