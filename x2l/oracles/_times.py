"""Times and ordinals as English texts write them: 1:23, 83 s, one minute and 23 seconds; third, 3rd, last."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = [f"{stem}teen" for stem in ("thir", "four", "fif", "six", "seven", "eigh", "nine")]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBERS = {word: number for number, word in enumerate(["zero", *_ONES, "ten", "eleven", "twelve", *_TEENS])}
_NUMBERS |= {word: 10 * number for number, word in enumerate(_TENS, 2)} | {"a": 1, "an": 1}
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
UNITS_S = {"h": 3600, "m": 60, "s": 1}
"""Seconds of a unit by its first letter."""


def _one_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(words)})"


_WORD = rf"\b(?:{_one_of(_TENS)}[- ]{_one_of(_ONES)}|{_one_of(_NUMBERS)})\b"
_AMOUNT = rf"(?:half an?|(?:\d+(?:\.\d+)?|{_WORD})(?: and a half)?)"
# "100 m" is a length.
_HOURS = rf"{_AMOUNT}(?:[ -]?(?:hours?|hrs?)|h)(?![a-z])"
_MINUTES = rf"{_AMOUNT}(?:[ -]?min(?:ute)?s?|m)(?![a-z])"
_SECONDS = rf"{_AMOUNT}[ -]?(?:sec(?:ond)?s?|s)(?![a-z])"
_WITH = r"(?:, ?| )?(?:and )?"
_DURATION = (
    rf"(?<![\w.:])(?:{_HOURS}(?:{_WITH}{_MINUTES})?(?:{_WITH}{_SECONDS})?"
    rf"|{_MINUTES}(?:{_WITH}{_SECONDS})?|{_SECONDS})"
)

CLOCK = r"(?<![\w.:])(?:\d{1,2}:)?\d{1,3}:[0-5]\d(?:[.,]\d+)?(?![\d:]| ?[ap]\.?m\b)"
"""1:23 and 01:02:03.5, but not 10:30 am."""
TIME = rf"({CLOCK}|{_DURATION})"
"""A clock's time, or a duration: a group. `seconds` tells how long."""
ORDINAL = rf"({_one_of(_ORDINALS)}|\d+(?:st|nd|rd|th)|last|final)"
"""Third, 3rd or last: a group. `place` tells which."""


def seconds(time: str) -> float:
    """Seconds of a time as `TIME` matches it."""
    if ":" in time:
        parts = [float(part) for part in time.replace(",", ".").split(":")]
        return sum(part * 60**i for i, part in enumerate(reversed(parts)))
    pieces = re.findall(rf"({_AMOUNT})[ -]?([hms])", time)
    return sum(_number(amount) * UNITS_S[unit] for amount, unit in pieces)


def _number(amount: str) -> float:
    if amount.startswith("half"):
        return 0.5
    whole = amount.removesuffix(" and a half")
    half = 0.5 if whole != amount else 0.0
    if whole[0].isdigit():
        return float(whole) + half
    return sum(_NUMBERS[word] for word in re.split("[- ]", whole)) + half


def place(ordinal: str, num: int) -> int:
    """From 0 on; `num` are there."""
    if ordinal in ("last", "final"):
        return num - 1
    return int(ordinal[:-2]) - 1 if ordinal[0].isdigit() else _ORDINALS.index(ordinal)
