"""Subtitle files, SRT and WebVTT: what is shown when."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import webvtt
from webvtt.models import Timestamp

from x2l.errors import X2LError
from x2l.storage.hub import one_line

READERS = {".srt": webvtt.from_srt, ".vtt": webvtt.read}


class Caption(NamedTuple):
    """From and to which second a text is shown; `marked` is the text with its mark-up."""

    start_s: float
    end_s: float
    text: str
    marked: str


def read_captions(path: Path) -> list[Caption]:
    """What a file says, in its order.

    Raises X2LError naming the file if it cannot be read.
    """
    try:
        captions = READERS[path.suffix.lower()](str(path), encoding="utf-8-sig").captions
    except Exception as error:  # whatever the library raises
        raise X2LError(f"{path}: cannot be read as subtitles, {one_line(error)}") from error
    return [Caption(_seconds(x.start_time), _seconds(x.end_time), x.text, x.raw_text) for x in captions]


def _seconds(time: Timestamp) -> float:
    return 3600 * time.hours + 60 * time.minutes + time.seconds + time.milliseconds / 1000
