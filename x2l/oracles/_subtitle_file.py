"""Subtitle files: SRT and WebVTT."""

from __future__ import annotations

import html
import re
from functools import lru_cache
from pathlib import Path

import webvtt
from webvtt.models import Timestamp

from x2l.oracles._timeline import Span
from x2l.storage.hub import one_line
from x2l.types import X2LError

READERS = {".srt": webvtt.from_srt, ".vtt": webvtt.read}
_PLACE = re.compile(r"\{\\[^}]*\}")
"""Where a line of SRT stands on the screen: "{\\an8}"."""

Cue = tuple[Span, str]
"""When a text is said, and the text."""


def read_cues(path: Path) -> tuple[Cue, ...]:
    """The cues of a file, without mark-up. Raises X2LError naming the file if it holds none."""
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, changed_ns: int) -> tuple[Cue, ...]:
    """Cached: every chunk of a video asks for the file."""
    try:
        cues = READERS[path.suffix.lower()](str(path), encoding="utf-8-sig").captions
    except Exception as error:  # whatever the library raises
        raise X2LError(f"{path}: cannot be read as subtitles, {one_line(error)}") from error
    if not cues:
        raise X2LError(f"{path}: expected subtitles, found none in it")
    return tuple(((_seconds(cue.start_time), _seconds(cue.end_time)), _plain(cue.text)) for cue in cues)


def _seconds(time: Timestamp) -> float:
    return 3600 * time.hours + 60 * time.minutes + time.seconds + time.milliseconds / 1000


def _plain(text: str) -> str:
    return " ".join(html.unescape(_PLACE.sub("", text)).split())


def subtitle_file(video: Path | None, given: str | None) -> Path | None:
    """The subtitles of a video: `given` itself, or a file of the video's name in it or beside the video.

    "talk.srt", "talk.vtt" or, with a language, "talk.en.srt" for talk.mp4. None: there is no such file.
    Raises X2LError if `given` does not exist or is of another kind, and for several languages.
    """
    if given is not None and not Path(given).is_dir():
        if not Path(given).is_file() or Path(given).suffix.lower() not in READERS:
            raise X2LError(f"oracle.path: {given}: expected a folder, or a file .srt or .vtt")
        return Path(given)
    if video is None:
        return None
    folder = video.parent if given is None else Path(given)
    for suffix in READERS:
        if (path := folder / f"{video.stem}{suffix}").is_file():
            return path
    named = (path for path in sorted(folder.glob("*")) if path.name.startswith(f"{video.stem}."))
    found = [path for path in named if path.suffix.lower() in READERS]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise X2LError(f"oracle.path: {folder} holds {names}, expected one of them by its path")
    return found[0] if found else None
