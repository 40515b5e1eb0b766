"""Contents of a video file, read from its packets; pixels are decoded for the first frame only.

Both readers rely on it: it knows the time of every frame, and finds once for all whether the file is
whole. Every error is an X2LError of one line that names the file.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from x2l.errors import X2LError
from x2l.video.container import damaged, decode, open_container

_INDEXED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers in which a seek arrives where it was sent, and that declare how long they are."""

_MISSING_S, _MISSING_SHARE = 0.5, 0.02
"""A file that ends this much before its declared end (whichever is longer) is truncated."""


@dataclass(frozen=True)
class Scan:
    """The frames of a video file, in the order they are shown.

    `pts` are the container's timestamps in units of `time_base_s`. Sizes are those of the upright
    picture, which is `quarter_turns` counter-clockwise from the stored one.
    """

    path: Path
    pts: Int[np.ndarray, " frames"]
    keyframe_pts: Int[np.ndarray, " keyframes"]
    time_base_s: float
    width: int
    height: int
    quarter_turns: int
    can_seek: bool
    """A seek in this container arrives where it was sent."""
    is_plain: bool
    """Also, each packet is one shown frame, and none is shown before the keyframe it is decoded after."""
    num_lost: int = 0
    """Frames that cannot be decoded (estimated for a missing end); counted by `salvage` only."""

    @cached_property
    def times_s(self) -> Float[np.ndarray, " frames"]:
        """Seconds since the first shown frame."""
        return (self.pts - self.pts[0]) * self.time_base_s

    @property
    def native_fps(self) -> float:
        """Mean frames per second; 1 for a single frame."""
        return (len(self.pts) - 1) / float(self.times_s[-1]) if len(self.pts) > 1 else 1.0

    @property
    def duration_s(self) -> float:
        """Seconds up to the end of the last frame, taken to last as long as the mean frame."""
        return float(self.times_s[-1]) + 1 / self.native_fps


def scan(path: Path, salvage: bool = False, progress: bool = False) -> Scan:
    """Read the packets of a video file; with `salvage`, decode it too, to know what can be.

    Raises X2LError if it is not a video or, without `salvage`, if a part of it is missing.
    """
    packets = _read_packets(path, progress)
    if not salvage and (packets.num_broken or packets.missing_s):
        raise damaged(path)
    pts, keyframe_pts = packets.shown_pts(), packets.keyframe_pts()
    if not len(pts):
        raise X2LError(f"{path}: its frames have no timestamps, expected a container such as mp4 or webm")
    width, height, quarter_turns = _picture(path, salvage)
    is_indexed = packets.format in _INDEXED_FORMATS
    is_plain = is_indexed and packets.are_plain()
    found = Scan(
        path, pts, keyframe_pts, packets.time_base_s, width, height, quarter_turns, is_indexed, is_plain
    )
    return _salvaged(found, _num_expected(packets), progress) if salvage else found


@dataclass
class _Packets:
    """The video packets of a file in stored order, and how far all its packets reach."""

    format: str
    time_base_s: float
    declared_s: float
    end_s: float = 0.0
    num_broken: int = 0
    pts: array = field(default_factory=lambda: array("q"))
    is_keyframe: array = field(default_factory=lambda: array("b"))
    is_shown: array = field(default_factory=lambda: array("b"))

    def add(self, packet: Any, is_video: bool) -> None:
        pts = packet.dts if packet.pts is None else packet.pts
        self.num_broken += packet.is_corrupt
        if pts is not None:
            self.end_s = max(self.end_s, (pts + (packet.duration or 0)) * float(packet.time_base))
        if pts is not None and is_video:
            self.pts.append(pts)
            self.is_keyframe.append(packet.is_keyframe)
            self.is_shown.append(not packet.is_discard)

    def shown_pts(self) -> Int[np.ndarray, " frames"]:
        return np.unique(np.array(self.pts, np.int64)[np.array(self.is_shown, bool)])

    def keyframe_pts(self) -> Int[np.ndarray, " keyframes"]:
        return np.unique(np.array(self.pts, np.int64)[np.array(self.is_keyframe, bool)])

    def are_plain(self) -> bool:
        """No packet is trimmed off by an edit list, and none is shown before an earlier keyframe."""
        pts, is_keyframe = np.array(self.pts, np.int64), np.array(self.is_keyframe, bool)
        last_keyframe = np.maximum.accumulate(np.where(is_keyframe, pts, pts.min()))
        return bool(all(self.is_shown) and is_keyframe[0] and (pts >= last_keyframe).all())

    @property
    def missing_s(self) -> float:
        """Seconds between the last packet and the declared end; 0 if that is within its precision."""
        missing_s = self.declared_s - self.end_s
        return missing_s if missing_s > max(_MISSING_S, _MISSING_SHARE * self.declared_s) else 0.0


def _read_packets(path: Path, progress: bool) -> _Packets:
    import av

    container, stream = open_container(path)
    with container:
        packets = _Packets(container.format.name, float(stream.time_base), _declared_s(container))
        try:
            for packet in tqdm(container.demux(), "read", unit="packet", delay=1, disable=not progress):
                # Those that only flush a decoder are empty.
                if packet.size:
                    packets.add(packet, packet.stream_index == stream.index)
        except av.FFmpegError:
            packets.num_broken += 1
    return packets


def _declared_s(container: Any) -> float:
    """Elsewhere the duration is an estimate from the bit rate."""
    declares = container.format.name in _INDEXED_FORMATS and container.duration
    return container.duration * 1e-6 if declares else 0.0


def _picture(path: Path, salvage: bool) -> tuple[int, int, int]:
    """Width and height of the upright picture, and how to get there in quarter turns."""
    container, stream = open_container(path)
    with container:
        frame = next(decode(container, stream, path, salvage), None)
    if frame is None:
        raise X2LError(f"{path}: corrupted, none of its frames can be decoded")
    quarter_turns = round(frame.rotation / 90) % 4
    sides = (frame.width, frame.height)
    return sides[quarter_turns % 2], sides[1 - quarter_turns % 2], quarter_turns


def _num_expected(packets: _Packets) -> int:
    """Frames of the whole file: those it holds or, if its end is missing, an estimate from its duration."""
    pts = packets.shown_pts()
    if not packets.missing_s or len(pts) < 2:
        return len(pts)
    return max(len(pts), round(packets.declared_s / (float(np.median(np.diff(pts))) * packets.time_base_s)))


def _salvaged(found: Scan, num_expected: int, progress: bool) -> Scan:
    """Only the frames that decode, and a count of those that should have been there."""
    container, stream = open_container(found.path)
    stream.codec_context.thread_count = 1
    with container:
        frames = decode(container, stream, found.path, salvage=True)
        bar = tqdm(frames, "salvage", num_expected, unit="frame", delay=1, disable=not progress)
        decoded = np.fromiter((frame.pts for frame in bar), np.int64)
    pts = np.unique(decoded)
    return replace(found, pts=pts, num_lost=max(0, num_expected - len(pts)))
