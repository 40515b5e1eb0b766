"""The subtitles of a video, as an oracle reads them."""

from __future__ import annotations

import html
import re
from functools import lru_cache
from pathlib import Path

from x2l.oracles._timeline import Span
from x2l.storage.captions import READERS, read_captions
from x2l.types import X2LError

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
    captions = read_captions(path)
    if not captions:
        raise X2LError(f"{path}: expected subtitles, found none in it")
    return tuple(((caption.start_s, caption.end_s), _plain(caption.text)) for caption in captions)


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
