"""Opening a video file with PyAV and decoding it packet by packet.

Every error is an X2LError of one line that names the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from x2l.errors import X2LError

_TEXT_FORMATS = {"tty"}
"""FFmpeg renders text files as video."""


def open_container(path: Path) -> tuple[Any, Any]:
    """The open container of a video file and its first video stream.

    Raises X2LError if there is no such file or no video in it.
    """
    import av

    _require_content(path)
    try:
        # An absolute path is never taken for a URL; a playlist may not lead to one.
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error
    if container.format.name in _TEXT_FORMATS:
        raise X2LError(f"{path}: not a video file")
    return container, _video_stream(container, path)


def decode(container: Any, stream: Any, path: Path, salvage: bool = False) -> Iterator[Any]:
    """Frames from where the container stands. With `salvage`, what cannot be decoded is skipped."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            frames = packet.decode() if packet is not None else None
        except av.FFmpegError as error:
            if salvage:
                continue
            raise damaged(path) from error
        if frames is None:
            return
        if not salvage and any(frame.is_corrupt for frame in frames):
            raise damaged(path)
        yield from (frame for frame in frames if frame.pts is not None and not frame.is_corrupt)


def damaged(path: Path) -> X2LError:
    """The error for a file of which a part is missing or wrong."""
    return X2LError(f"{path}: truncated or corrupted; --salvage uses what can be decoded")


def _require_content(path: Path) -> None:
    try:
        if path.is_dir():
            raise X2LError(f"{path}: is a directory without pictures, expected a video file")
        if not path.exists():
            raise X2LError(f"{path}: no such file")
        if not path.is_file():
            raise X2LError(f"{path}: not a regular file, expected a video file")
        if path.stat().st_size == 0:
            raise X2LError(f"{path}: is empty (0 bytes), expected a video file")
    except OSError as error:
        raise X2LError(f"{path}: cannot be read ({error.strerror})") from error


def _unreadable(path: Path, error: Exception) -> X2LError:
    import av

    if not isinstance(error, av.error.InvalidDataError):
        return X2LError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})")
    with path.open("rb") as file:
        is_mp4 = file.read(8)[4:] == b"ftyp"
    if is_mp4:
        return X2LError(f"{path}: truncated or corrupted, its index (moov) is missing; --salvage cannot help")
    return X2LError(f"{path}: not a video file, or its header is corrupted")


def _video_stream(container: Any, path: Path) -> Any:
    from av.stream import Disposition

    streams = container.streams
    # The cover picture of a piece of music is a video stream too.
    moving = [stream for stream in streams.video if not stream.disposition & Disposition.attached_pic]
    if not moving:
        raise X2LError(f"{path}: has no video stream" + (", only audio" if streams.audio else ""))
    if moving[0].codec_context is None:
        raise X2LError(f"{path}: its video codec is not supported")
    return moving[0]
