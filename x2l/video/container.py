"""Opening a video file with PyAV and decoding it packet by packet.

Every error is an X2LError of one line that names the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from x2l.errors import X2LError
from x2l.video.pictures import NAMES

_TEXT_FORMATS = {"tty"}
"""FFmpeg renders text files as video."""


@contextmanager
def one_line_errors(path: Path | str) -> Iterator[None]:
    """Whatever a reader raises becomes an X2LError of one line that names the file."""
    try:
        yield
    except X2LError:
        raise
    except Exception as error:  # a damaged file reaches any line of a library
        reason = " ".join(str(error).split()) or type(error).__name__
        raise X2LError(f"{path}: cannot be read, corrupted or of an unknown kind ({reason})") from error


def open_container(path: Path) -> tuple[Any, Any]:
    """The open container of a video file and its first video stream.

    Raises X2LError if there is no such file or no video in it.
    """
    import av

    _require_content(path)
    try:
        # An absolute path is never taken for a URL; a playlist may not lead to one. Tags need not be UTF-8.
        # These are no `options`, with which PyAV 15 crashes on streams that are found late.
        only_files = {"protocol_whitelist": "file"}
        container = av.open(str(path.absolute()), container_options=only_files, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error
    if container.format.name in _TEXT_FORMATS:
        raise X2LError(f"{path}: not a video file")
    return container, _video_stream(container, path)


def open_decoder(path: Path) -> tuple[Any, Any]:
    """A container and its video stream, to be decoded. Raises X2LError like `open_container`.

    On one thread: an error is that of the packet in hand, and damage is seen each time. FFmpeg's threads
    race: a frame may leave before the one it was made from is known to be broken.
    """
    container, stream = open_container(path)
    stream.codec_context.thread_count = 1
    return container, stream


def decode(
    container: Any, stream: Any, path: Path | str, lost: set[int | None] | None = None
) -> Iterator[Any]:
    """Frames from where the container stands, in the order that the decoder shows them.

    With `lost`, what cannot be decoded is skipped and its timestamp added there; else it is an X2LError.
    """
    import av

    for packet in _packets(container, stream, path, skips=lost is not None):
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if lost is None:
                raise damaged(path) from error
            lost.add(packet.pts)
            continue
        broken = {frame.pts for frame in frames if frame.is_corrupt}
        if broken and lost is None:
            raise damaged(path)
        if lost is not None:
            lost |= broken
        yield from (frame for frame in frames if frame.pts is not None and frame.pts not in broken)


def _packets(container: Any, stream: Any, path: Path | str, skips: bool) -> Iterator[Any]:
    import av

    try:
        for packet in container.demux(stream):
            # Without a time of its own a packet is called by when it is decoded, and so is its picture.
            if packet.pts is None:
                packet.pts = packet.dts
            yield packet
    except av.FFmpegError as error:
        if not skips:
            raise damaged(path) from error


def damaged(path: Path | str) -> X2LError:
    """The error for a file of which a part is missing or wrong."""
    return X2LError(f"{path}: truncated or corrupted; --salvage uses what can be decoded")


def _require_content(path: Path) -> None:
    try:
        if path.is_dir():
            raise X2LError(f"{path}: is a directory without pictures ({NAMES}), expected a video file")
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
