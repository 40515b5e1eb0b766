"""Scoring: is an answer right, and which chunks did it need?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from x2l import matching
from x2l.errors import X2LError
from x2l.types import Question


def is_right(prediction: str, question: Question) -> bool:
    """Whether a prediction names the right option; without options, whether it begins with the right answer.

    What names an option: see x2l.matching. Options that the text of the question lists, "(A) red" in a line,
    are options too. Raises X2LError where there is no right answer, or it is none of the options.
    """
    gold, options = gold_answer(question), options_of(question)
    if gold not in options:
        return matching.says(prediction, gold)
    number = matching.chosen(prediction, options)
    return number is not None and options[number] == gold


def names_an_option(prediction: str, question: Question) -> bool:
    """Whether a prediction names one of the options, and no other."""
    return matching.chosen(prediction, options_of(question)) is not None


def gold_answer(question: Question) -> str:
    """The right answer itself; the text of an option, whether that is given, "B" or "(B) text".

    Raises X2LError if it is empty, or none of the options. It may be none of those that the text lists.
    """
    name, answer, options = question.id or repr(question.text), question.answer, options_of(question)
    if answer is None or not answer.strip():
        raise X2LError(f"question {name}: has no right answer, expected one to compare with")
    if (number := matching.spelt(answer, question.options or options)) is not None:
        return options[number]
    if question.options:
        expected = f"{', '.join(question.letters)} or one of {', '.join(map(repr, options))}"
        raise X2LError(f"question {name}: the answer {answer!r} is none of its options, expected {expected}")
    return answer


def options_of(question: Question) -> list[str]:
    """The options without letters in front of them; those that the text lists if there are no others."""
    return matching.without_letters(question.options) or matching.listed(question.text)


def plain(question: Question) -> Question:
    """The same question with options without letters, of which the right answer, if it is known, is one.

    Raises X2LError as `gold_answer` does.
    """
    answer = None if question.answer is None else gold_answer(question)
    options = tuple(options_of(question))
    return replace(question, options=options, answer=answer) if question.options else question


def recall(chosen: Sequence[int], gold: Sequence[int]) -> float | None:
    """Share of the gold chunks that were chosen; None without gold chunks."""
    return len({*chosen} & {*gold}) / len(gold) if gold else None


def best(scores: Sequence[float], k: int) -> list[int]:
    """The k chunks with the highest scores; of equal ones the earlier."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])[:k]


def words(text: str) -> set[str]:
    """The lower-case words of a question."""
    return set(re.findall(r"\w+", text.lower()))
