"""Scoring: is an answer right, and which chunks did it need?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from x2l.errors import X2LError
from x2l.types import Question


def is_right(prediction: str, question: Question) -> bool:
    """Exact match of the first words with the gold answer, up to case, space and punctuation.

    As many words as the gold answer has are compared: "7." and "7 stars" are "7". If the question shows
    options, the longest that the prediction begins with counts ("red car" is not "red"), and a letter alone
    or in front of its own option: "B", "(B) red", but not "A dog". Signs and decimals belong to a number.
    A gold answer with its letter, "(B) red", is the option. Raises X2LError for one without a word.
    """
    answer = dict(zip(question.lettered_options, question.options, strict=True)).get(question.answer)
    gold, said = _words(question.answer if answer is None else answer), _words(prediction)
    if not gold:
        raise X2LError(f"question {question.id}: the answer {question.answer!r} holds no word to compare")
    options = [_words(option) for option in question.options]
    if letter := _letter(said, options):
        return options[_number(letter)] == gold
    return said[: len(gold)] == gold and not any(
        len(option) > len(gold) and said[: len(option)] == option for option in options
    )


def _letter(said: list[str], options: list[list[str]]) -> str | None:
    """The letter of an option that an answer begins with, and with nothing else or that option behind it."""
    if not said or len(said[0]) > 1 or not 0 <= _number(said[0]) < len(options) or said in options:
        return None
    named = options[_number(said[0])]
    return said[0] if said[1:] == [] or said[1 : 1 + len(named)] == named else None


def recall(chosen: Sequence[int], gold: Sequence[int]) -> float | None:
    """Share of the gold chunks that were chosen; None without gold chunks."""
    return len({*chosen} & {*gold}) / len(gold) if gold else None


def best(scores: Sequence[float], k: int) -> list[int]:
    """The k chunks with the highest scores; of equal ones the earlier."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])[:k]


def words(text: str) -> set[str]:
    """The lower-case words of a question."""
    return set(re.findall(r"\w+", text.lower()))


def _words(text: str) -> list[str]:
    return re.findall(r"-?\d+(?:[.,]\d+)*|[^\W_]+", text.casefold())


def _number(letter: str) -> int:
    return ord(letter.upper()) - ord("A")
