"""Times that an English text names, as spans of a video: "at 1:23", "the last minute", "the second half"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from x2l.oracles._timeline import Span

MOMENT_S = 1.0
"""Length of the moment that a time by itself names: the resolution of a player's clock."""
NEAR_S = 10.0
"""Length of "right before" and "shortly after" a time."""
EDGE_SHARE = 0.1
"""Share of the video that is its beginning, its middle or its end."""


@dataclass(frozen=True)
class Video:
    """Facts that a phrase may need: where the video ends, and when a frame is shown (None: there is none)."""

    end_s: float
    frame_s: Callable[[int], Span | None]


def named_spans(text: str, video: Video) -> list[Span]:
    """Spans of the video that a text names, in order and cut to the video; none if it names no time of it.

    A phrase that goes on with "of", but not "of the video", is about something else ("the second half of the
    match"). Frames count from 0.
    """
    text, found = " ".join(text.lower().split()), []
    for pattern, span in _RULES:
        found += [span(video, *filter(None, match.groups())) for match in pattern.finditer(text)]
        text = pattern.sub("|", text)  # what a rule has read, no later one reads again
    cut = [(max(start, 0.0), min(end, video.end_s)) for start, end in filter(None, found)]
    return sorted((start, end) for start, end in cut if start < end)


# Numbers and times


_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = [f"{stem}teen" for stem in ("thir", "four", "fif", "six", "seven", "eigh", "nine")]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBERS = {word: number for number, word in enumerate(["zero", *_ONES, "ten", "eleven", "twelve", *_TEENS])}
_NUMBERS |= {word: 10 * number for number, word in enumerate(_TENS, 2)} | {"a": 1, "an": 1}
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "tenth": 10}
_UNITS_S = {"h": 3600, "m": 60, "s": 1}


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
_CLOCK = r"(?<![\w.:])(?:\d{1,2}:)?\d{1,3}:[0-5]\d(?:[.,]\d+)?(?![\d:]| ?[ap]\.?m\b)"
_TIME = rf"({_CLOCK}|{_DURATION})"
_ORDINAL = rf"({_one_of(_ORDINALS)}|\d+(?:st|nd|rd|th)|last|final)"
_ROUGHLY = r"(?:(?:about|around|roughly|exactly|time|the) )*"
_OF_VIDEO = r"\b(?! of (?!(?:the|this) (?:whole )?(?:video|clip|film|movie|footage|recording)\b))"


def _seconds(time: str) -> float:
    """Seconds of a time as `_TIME` matches it."""
    if ":" in time:
        parts = [float(part) for part in time.replace(",", ".").split(":")]
        return sum(part * 60**i for i, part in enumerate(reversed(parts)))
    pieces = re.findall(rf"({_AMOUNT})[ -]?([hms])", time)
    return sum(_number(amount) * _UNITS_S[unit] for amount, unit in pieces)


def _number(amount: str) -> float:
    if amount.startswith("half"):
        return 0.5
    whole = amount.removesuffix(" and a half")
    half = 0.5 if whole != amount else 0.0
    if whole[0].isdigit():
        return float(whole) + half
    return sum(_NUMBERS[word] for word in re.split("[- ]", whole)) + half


def _place(ordinal: str, num: int) -> int:
    """From 0 on; `num` are there."""
    if ordinal in ("last", "final"):
        return num - 1
    return int(ordinal[:-2]) - 1 if ordinal[0].isdigit() else _ORDINALS.index(ordinal)


# What phrases say


def _moment(video: Video, time: str) -> Span:
    return _seconds(time), _seconds(time) + MOMENT_S


def _moment_before_end(video: Video, time: str) -> Span:
    start_s = video.end_s - _seconds(time)
    return start_s, start_s + MOMENT_S


def _between(video: Video, start: str, end: str) -> Span:
    return _seconds(start), _seconds(end)


def _first(video: Video, time: str) -> Span:
    return 0.0, _seconds(time)


def _last(video: Video, time: str) -> Span:
    return video.end_s - _seconds(time), video.end_s


def _from(video: Video, time: str) -> Span:
    return _seconds(time), video.end_s


def _right_after(video: Video, time: str) -> Span:
    return _seconds(time), _seconds(time) + NEAR_S


def _right_before(video: Video, time: str) -> Span:
    return _seconds(time) - NEAR_S, _seconds(time)


def _unit(video: Video, ordinal: str, unit: str) -> Span:
    length_s = float(_UNITS_S[unit[0]])
    if ordinal in ("last", "final"):
        return video.end_s - length_s, video.end_s
    start_s = _place(ordinal, 0) * length_s
    return start_s, start_s + length_s


def _numbered(video: Video, unit: str, number: str) -> Span:
    start_s, length_s = float(number) * _UNITS_S[unit[0]], _UNITS_S[unit[0]]
    return start_s, start_s + length_s


def _part(video: Video, ordinal: str, part: str) -> Span:
    length_s = video.end_s / _PARTS[part]
    start_s = _place(ordinal, _PARTS[part]) * length_s
    return start_s, start_s + length_s


def _middle_part(video: Video, part: str) -> Span:
    length_s = video.end_s / _PARTS[part]
    return (video.end_s - length_s) / 2, (video.end_s + length_s) / 2


def _edge(video: Video, edge: str) -> Span:
    length_s = EDGE_SHARE * video.end_s
    starts_s = {"beginning": 0.0, "start": 0.0, "end": video.end_s - length_s}
    start_s = starts_s.get(edge, (video.end_s - length_s) / 2)
    return start_s, start_s + length_s


def _frames(video: Video, first: str, last: str = "") -> Span | None:
    shown, end = video.frame_s(int(first)), video.frame_s(int(last or first))
    return shown and (shown[0], end[1] if end else video.end_s)


def _nth_frame(video: Video, nth: str) -> Span | None:
    return video.frame_s(int(nth) - 1)


_TO = r"(?: ?[-–] ?| (?:to|till|until|through|and) )"
_JUST = r"\b(?:right|just|shortly|immediately|soon)"
_RULES: list[tuple[re.Pattern, Callable[..., Span | None]]] = [
    (re.compile(pattern), span)
    for pattern, span in (
        (rf"\bframes? (?:numbers? |no\.? ?|#)?(\d+)(?:{_TO}(?:frame )?(\d+))?\b", _frames),
        (r"\b(\d+)(?:st|nd|rd|th) frame\b", _nth_frame),
        (rf"\b(?:between|from) {_TIME}{_TO}{_TIME}", _between),
        (rf"{_TIME}(?: ?[-–] ?| (?:to|till|until) ){_TIME}", _between),
        (rf"\bfirst {_TIME}{_OF_VIDEO}", _first),
        (rf"\b(?:last|final) {_TIME}{_OF_VIDEO}", _last),
        (rf"{_TIME} (?:before|from) the (?:very )?end{_OF_VIDEO}", _moment_before_end),
        (rf"{_TIME} (?:after|from) the (?:very )?(?:beginning|start){_OF_VIDEO}", _moment),
        (rf"{_JUST} after {_TIME}{_OF_VIDEO}", _right_after),
        (rf"{_JUST} before {_TIME}{_OF_VIDEO}", _right_before),
        (rf"\b(?:after|since|past|from) {_ROUGHLY}{_TIME}{_OF_VIDEO}", _from),
        (rf"\b(?:before|until|till|up to) {_ROUGHLY}{_TIME}{_OF_VIDEO}", _first),
        (rf"(?:\b(?:at|near)|@) ?{_ROUGHLY}{_TIME}{_OF_VIDEO}", _moment),
        (rf"{_TIME} (?:mark\b|into the (?:video|clip)\b|in\b(?! (?:the|a)\b))", _moment),
        (rf"({_CLOCK})", _moment),
        (r"\b(minute|second) (\d+)\b", _numbered),
        (rf"\b{_ORDINAL} (hour|minute|second){_OF_VIDEO}", _unit),
        (rf"\b{_ORDINAL} ({'|'.join(_PARTS)}){_OF_VIDEO}", _part),
        (rf"\bmiddle (third|fifth){_OF_VIDEO}", _middle_part),
        (rf"\b(?:at|in|near|by|towards?|from) the (?:very )?(beginning|start|middle|end){_OF_VIDEO}", _edge),
        (r"\b(halfway) (?:through|into)\b", _edge),
    )
]
