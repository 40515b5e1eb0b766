"""The conversation of a LLaVA-style record: human and gpt in turn."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from x2l.errors import X2LError

ROLES = ("human", "gpt")
_PLACEHOLDER = re.compile(r"<(?:image|video)>\n?")
_CAPTION_PROMPT = re.compile(
    r"(please |can you |could you )*"
    r"(describe|caption|summari[sz]e"
    r"|(write|provide|give|generate|create|compose|offer)\b.{0,60}\b(caption|description|summary))\b",
    re.IGNORECASE,
)

Turn = tuple[str, str]
"""What the human asks and what the model answers."""


def turns_of(conversation: Sequence[Mapping[str, Any]], path: str) -> Iterator[Turn]:
    """Questions with their answers, without the placeholder that stands for the video.

    Raises X2LError naming the entry under `path` that is not the role's whose turn it is, not text, or empty.
    """
    values = [_value(entry, ROLES[i % 2], f"{path}.{i}") for i, entry in enumerate(conversation)]
    if not values or len(values) % 2:
        raise X2LError(f"{path}: expected human and gpt in turn, an answer last, got {len(values)} entries")
    values[0] = _PLACEHOLDER.sub("", values[0])
    for i, value in enumerate(values):
        if not value.strip():
            raise X2LError(f"{path}.{i}.value: is empty, expected text")
        if i and ROLES[i % 2] == "human" and _PLACEHOLDER.search(value):
            raise X2LError(f"{path}.{i}.value: has a placeholder, expected it in the first turn only")
    stripped = [value.strip() for value in values]
    yield from zip(stripped[::2], stripped[1::2], strict=True)


def asks_for_caption(text: str) -> bool:
    """By its first words: "Describe ...", "Please write a short summary ..."."""
    return _CAPTION_PROMPT.match(text) is not None


def _value(entry: Mapping[str, Any], role: str, path: str) -> str:
    if entry.get("from") != role:
        raise X2LError(f"{path}.from: expected {role}, got {entry.get('from')!r}")
    if not isinstance(entry.get("value"), str):
        raise X2LError(f"{path}.value: expected text, got {entry.get('value')!r}")
    return entry["value"]
