"""A video while it comes: its frames in order, as soon as they can be decoded, in bounded memory."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import UInt8

from x2l.config.paths import local_path
from x2l.errors import X2LError
from x2l.video.container import decode, one_line_errors

PIPE = "-"
"""Standard input in the place of a path."""
_LOOK_EVERY_S = 0.2
_PROTOCOLS = "http,https,rtsp,rtsps,rtmp,rtmps,rtp,srt,udp,tcp,tls,crypto"
"""No files: a playlist from elsewhere may not lead to one."""
_LIVE = r"(rtsps?|rtmps?|rtp|srt|udp)://"
_URL = rf"https?://|{_LIVE}"
_RELIABLE = {"rtsp_transport": "tcp"}
"""What is lost on the way breaks the pictures behind it; other protocols pass this by."""


def is_live(source: str | Path) -> bool:
    """Whether it is the address of a source that does not wait until its frames are taken."""
    return re.match(_LIVE, str(source), re.IGNORECASE) is not None


class _Written(io.RawIOBase):
    """A file that waits for more at its end, until nothing was written for some seconds."""

    def __init__(self, path: Path, idle_s: float):
        self._file, self._idle_s, self._ended = path.open("rb"), idle_s, False

    def readable(self) -> bool:
        return True

    def read(self, num_bytes: int = -1) -> bytes:
        since = time.monotonic()
        while not (part := self._file.read(num_bytes)) and not self._ended:
            time.sleep(_LOOK_EVERY_S)
            # An end is for good: a demuxer reads on there, and would wait each time.
            self._ended = time.monotonic() - since > self._idle_s
        return part


def name_of(source: str | Path) -> str:
    """What an index calls it: of an address the last part, since it may hold a password."""
    return Path(urlsplit(str(source)).path).name or "stream" if _is_url(source) else local_path(source).name


def follow(
    source: str | Path, idle_s: float = 10.0
) -> Iterator[tuple[UInt8[np.ndarray, "height width 3"], float]]:
    """Frames (RGB, upright) and their seconds, from the first one on.

    The source is a file, a pipe ("-") or an address (http, rtsp, rtmp, udp, srt), read as fast as its frames
    are taken: see `is_live` and x2l.waiting. It is in a container that needs no look at its end: mkv, webm,
    MPEG-TS or a fragmented mp4. A pipe ends when it is closed, others when nothing came for `idle_s` seconds.
    What is cut off there is left out, and what breaks on its way through a network.
    Raises X2LError if there is no such source, or it cannot be decoded so.
    """
    is_url = _is_url(source)
    with one_line_errors(source), (_connected if is_url else _opened)(source, idle_s) as container:
        if not container.streams.video:
            raise X2LError(f"{source}: has no video stream")
        start_s = None
        for frame in decode(container, container.streams.video[0], source, set() if is_url else None):
            time_s = float(frame.pts * frame.time_base)
            start_s = time_s if start_s is None else start_s
            rgb = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
            yield np.ascontiguousarray(rgb), time_s - start_s


def _is_url(source: str | Path) -> bool:
    return re.match(_URL, str(source), re.IGNORECASE) is not None


def _opened(source: str | Path, idle_s: float) -> Any:
    import av

    path = local_path(source)
    if str(path) != PIPE and not path.is_file():
        raise X2LError(f"{path}: no such file, expected a video that is being written, or - for a pipe")
    file = sys.stdin.buffer if str(path) == PIPE else _Written(path, idle_s)
    try:
        return av.open(file, metadata_errors="replace")
    except av.error.InvalidDataError as error:
        kinds = "mkv, webm, MPEG-TS or a fragmented mp4"
        raise X2LError(f"{path}: cannot be followed, expected {kinds}") from error


def _connected(url: str, idle_s: float) -> Any:
    import av

    try:
        options = {"protocol_whitelist": _PROTOCOLS, **_RELIABLE}
        return av.open(url, timeout=idle_s, container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        reason = "nothing came" if isinstance(error, av.error.ExitError) else error.strerror
        raise X2LError(f"{url}: cannot be followed ({reason})") from error
