"""Times that an English text names, as spans of a video: "at 1:23", "the last minute", "the second half"."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from x2l.oracles._timeline import Span
from x2l.oracles._times import CLOCK, ORDINAL, TIME, UNITS_S, place, seconds

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


_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "tenth": 10}


def _moment(video: Video, time: str) -> Span:
    return seconds(time), seconds(time) + MOMENT_S


def _moment_before_end(video: Video, time: str) -> Span:
    start_s = video.end_s - seconds(time)
    return start_s, start_s + MOMENT_S


def _between(video: Video, start: str, end: str) -> Span:
    return seconds(start), seconds(end)


def _first(video: Video, time: str) -> Span:
    return 0.0, seconds(time)


def _last(video: Video, time: str) -> Span:
    return video.end_s - seconds(time), video.end_s


def _from(video: Video, time: str) -> Span:
    return seconds(time), video.end_s


def _right_after(video: Video, time: str) -> Span:
    return seconds(time), seconds(time) + NEAR_S


def _right_before(video: Video, time: str) -> Span:
    return seconds(time) - NEAR_S, seconds(time)


def _unit(video: Video, ordinal: str, unit: str) -> Span:
    length_s = float(UNITS_S[unit[0]])
    if ordinal in ("last", "final"):
        return video.end_s - length_s, video.end_s
    start_s = place(ordinal, 0) * length_s
    return start_s, start_s + length_s


def _numbered(video: Video, unit: str, number: str) -> Span:
    start_s, length_s = float(number) * UNITS_S[unit[0]], UNITS_S[unit[0]]
    return start_s, start_s + length_s


def _part(video: Video, ordinal: str, part: str) -> Span:
    length_s = video.end_s / _PARTS[part]
    start_s = place(ordinal, _PARTS[part]) * length_s
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


_ROUGHLY = r"(?:(?:about|around|roughly|exactly|time|the) )*"
_OF_VIDEO = r"\b(?! of (?!(?:the|this) (?:whole )?(?:video|clip|film|movie|footage|recording)\b))"
_TO = r"(?: ?[-–] ?| (?:to|till|until|through|and) )"
_JUST = r"\b(?:right|just|shortly|immediately|soon)"
_RULES: list[tuple[re.Pattern, Callable[..., Span | None]]] = [
    (re.compile(pattern), span)
    for pattern, span in (
        (rf"\bframes? (?:numbers? |no\.? ?|#)?(\d+)(?:{_TO}(?:frame )?(\d+))?\b", _frames),
        (r"\b(\d+)(?:st|nd|rd|th) frame\b", _nth_frame),
        (rf"\b(?:between|from) {TIME}{_TO}{TIME}", _between),
        (rf"{TIME}(?: ?[-–] ?| (?:to|till|until) ){TIME}", _between),
        (rf"\bfirst {TIME}{_OF_VIDEO}", _first),
        (rf"\b(?:last|final) {TIME}{_OF_VIDEO}", _last),
        (rf"{TIME} (?:before|from) the (?:very )?end{_OF_VIDEO}", _moment_before_end),
        (rf"{TIME} (?:after|from) the (?:very )?(?:beginning|start){_OF_VIDEO}", _moment),
        (rf"{_JUST} after {TIME}{_OF_VIDEO}", _right_after),
        (rf"{_JUST} before {TIME}{_OF_VIDEO}", _right_before),
        (rf"\b(?:after|since|past|from) {_ROUGHLY}{TIME}{_OF_VIDEO}", _from),
        (rf"\b(?:before|until|till|up to) {_ROUGHLY}{TIME}{_OF_VIDEO}", _first),
        (rf"(?:\b(?:at|near)|@) ?{_ROUGHLY}{TIME}{_OF_VIDEO}", _moment),
        (rf"{TIME} (?:mark\b|into the (?:video|clip)\b|in\b(?! (?:the|a)\b))", _moment),
        (rf"({CLOCK})", _moment),
        (r"\b(minute|second) (\d+)\b", _numbered),
        (rf"\b{ORDINAL} (hour|minute|second){_OF_VIDEO}", _unit),
        (rf"\b{ORDINAL} ({'|'.join(_PARTS)}){_OF_VIDEO}", _part),
        (rf"\bmiddle (third|fifth){_OF_VIDEO}", _middle_part),
        (rf"\b(?:at|in|near|by|towards?|from) the (?:very )?(beginning|start|middle|end){_OF_VIDEO}", _edge),
        (r"\b(halfway) (?:through|into)\b", _edge),
    )
]
