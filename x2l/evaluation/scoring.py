"""Whether an answer is right, and which chunks it needed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from x2l.types import Question


def is_right(prediction: str, question: Question) -> bool:
    """Exact match of the first words with the gold answer, up to case, space and punctuation.

    As many words as the gold answer has are compared: "7." and "7 stars" are "7". If the question shows
    options, their letter is right too: "B", "(B) red".
    """
    gold, said = _words(question.answer), _words(prediction)
    if said[: len(gold)] == gold:
        return True
    letter = re.match(r"\s*\(?([A-Za-z])\b", prediction)
    options = [_words(option) for option in question.options]
    return letter is not None and gold in options and _number(letter[1]) == options.index(gold)


def recall(chosen: Sequence[int], gold: Sequence[int]) -> float | None:
    """Share of the gold chunks that were chosen; None without gold chunks."""
    return len({*chosen} & {*gold}) / len(gold) if gold else None


def best(scores: Sequence[float], k: int) -> list[int]:
    """The k chunks with the highest scores; of equal ones the earlier."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])[:k]


def _words(text: str) -> list[str]:
    return re.sub(r"[^\w\s]|_", " ", text.casefold()).split()


def _number(letter: str) -> int:
    return ord(letter.upper()) - ord("A")
