"""A video while it is written: its frames in order, as soon as they can be decoded, in bounded memory."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from x2l.config.paths import local_path
from x2l.errors import X2LError
from x2l.video.container import decode, one_line_errors

PIPE = "-"
"""Standard input in the place of a path."""
_LOOK_EVERY_S = 0.2


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


def follow(
    path: str | Path, idle_s: float = 10.0
) -> Iterator[tuple[UInt8[np.ndarray, "height width 3"], float]]:
    """Frames (RGB, upright) and their seconds, from the first one on; all of them, none is dropped.

    The source is read as fast as its frames are taken. It is in a container that needs no look at its end:
    mkv, webm, MPEG-TS or a fragmented mp4. A file ends when nothing was written for `idle_s` seconds, a pipe
    ("-") when it is closed; what is cut off there is left out.
    Raises X2LError if there is no file, or it cannot be decoded so.
    """
    import av

    path = local_path(path)
    if str(path) != PIPE and not path.is_file():
        raise X2LError(f"{path}: no such file, expected a video that is being written, or - for a pipe")
    source = sys.stdin.buffer if str(path) == PIPE else _Written(path, idle_s)
    with one_line_errors(path):
        try:
            container = av.open(source, metadata_errors="replace")
        except av.error.InvalidDataError as error:
            kinds = "mkv, webm, MPEG-TS or a fragmented mp4"
            raise X2LError(f"{path}: cannot be followed, expected {kinds}") from error
        with container:
            if not container.streams.video:
                raise X2LError(f"{path}: has no video stream")
            start_s = None
            for frame in decode(container, container.streams.video[0], path):
                time_s = float(frame.pts * frame.time_base)
                start_s = time_s if start_s is None else start_s
                rgb = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
                yield np.ascontiguousarray(rgb), time_s - start_s
