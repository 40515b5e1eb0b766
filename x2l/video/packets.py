"""The packets of a video file: when their pictures are shown, and which are made from which."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from tqdm import tqdm

from x2l.video.container import open_container

_INDEXED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers in which a seek arrives where it was sent, and that declare how long they are."""

_BROADCAST_FORMATS = ("mpegts", "mpeg")
"""Recorded from anywhere on, with a packet for each half of an interlaced picture."""

_HIDING_CODECS = ("vp8",)
"""They have pictures that are never shown."""

_SKIP_BYTES = 16
"""A packet as small as this may only say that the picture stays as it is."""

_MISSING_S, _MISSING_SHARE = 0.5, 0.02
"""A file that ends this much before its declared end (whichever is longer) is truncated.

Unless a picture is shown that long, as in slide shows, whose last one may have no duration of its own.
"""


@dataclass
class Packets:
    """The video packets of a file in stored order, and how far all its packets reach.

    A packet is called by when it is shown, in units of `time_base_s`, and so is its picture.
    """

    format: str
    codec: str
    time_base_s: float
    declared_s: float
    end_s: float = 0.0
    num_broken: int = 0
    _last_dts: int = -(1 << 63)
    _rows: array = field(default_factory=lambda: array("q"))

    def add(self, packet: Any, is_video: bool) -> None:
        pts = packet.dts if packet.pts is None else packet.pts
        is_broken = packet.is_corrupt
        if is_video and packet.dts is not None:
            # Packets are stored as they are decoded: time that goes back is damage, or another recording.
            is_broken |= packet.dts < self._last_dts
            self._last_dts = max(self._last_dts, packet.dts)
        self.num_broken += is_broken
        duration = packet.duration or 0
        if pts is not None:
            self.end_s = max(self.end_s, (pts + duration) * float(packet.time_base))
        if pts is not None and is_video:
            is_shown = not packet.is_discard
            self._rows.extend((pts, packet.is_keyframe, is_shown, is_broken, duration, packet.size))

    @cached_property
    def _columns(self) -> Int[np.ndarray, "6 packets"]:
        return np.array(self._rows, np.int64).reshape(-1, 6).T

    @property
    def pts(self) -> Int[np.ndarray, " packets"]:
        return self._columns[0]

    @property
    def is_keyframe(self) -> Bool[np.ndarray, " packets"]:
        return self._columns[1] > 0

    @cached_property
    def shown_pts(self) -> Int[np.ndarray, " frames"]:
        return np.unique(self.pts[self._columns[2] > 0])

    @property
    def keyframe_pts(self) -> Int[np.ndarray, " keyframes"]:
        return np.unique(self.pts[self.is_keyframe])

    @property
    def num_early(self) -> int:
        """Packets before the first keyframe."""
        return int(self.is_keyframe.argmax())

    @property
    def may_start_late(self) -> bool:
        """A recording without its first keyframe is as it was broadcast."""
        return self.format in _BROADCAST_FORMATS

    @property
    def is_indexed(self) -> bool:
        return self.format in _INDEXED_FORMATS

    @property
    def are_plain(self) -> bool:
        """No packet is trimmed off by an edit list, and none is shown before an earlier keyframe."""
        last_keyframe = np.maximum.accumulate(np.where(self.is_keyframe, self.pts, self.pts.min()))
        is_shown = self._columns[2] > 0
        return bool(is_shown.all() and self.is_keyframe[0] and (self.pts >= last_keyframe).all())

    @property
    def missing_s(self) -> float:
        """Seconds between the last packet and the declared end; 0 if a last picture may fill them."""
        missing_s = self.declared_s - self.end_s
        longest_s = float(np.diff(self.shown_pts).max(initial=0)) * self.time_base_s
        return missing_s if missing_s > max(_MISSING_S, _MISSING_SHARE * self.declared_s, longest_s) else 0.0

    @property
    def num_expected(self) -> int:
        """Frames of the whole file: those it holds; if its end is missing, an estimate by its duration."""
        num_frames = len(self.shown_pts)
        if not self.missing_s or num_frames < 2:
            return num_frames
        typical_s = float(np.median(np.diff(self.shown_pts))) * self.time_base_s
        return max(num_frames, round(self.declared_s / typical_s))

    def duration_s(self, pts: int) -> float:
        """How long a picture is shown; 0 if the file does not say."""
        return max(0.0, float(self._columns[4][self.pts == pts][0]) * self.time_base_s)

    def may_skip(self, pts: Int[np.ndarray, " frames"]) -> Bool[np.ndarray, " frames"]:
        """Whether the decoder may give no picture for a packet, without damage."""
        if self.format in _BROADCAST_FORMATS or self.codec in _HIDING_CODECS:
            return np.ones(len(pts), bool)
        return np.isin(pts, self.pts[self._columns[5] <= _SKIP_BYTES])

    def num_reordered(self, shown: Int[np.ndarray, " frames"]) -> int:
        """The largest number of frames from one that is shown to one that is decoded before it.

        shown: timestamps in the order that frames are shown.
        """
        place = {pts: index for index, pts in enumerate(shown.tolist())}
        indices = np.array([place[pts] for pts in self.pts.tolist() if pts in place])
        return int((np.maximum.accumulate(indices) - indices).max())

    def spoilt_by(self, lost: Collection[int | None]) -> Int[np.ndarray, " spoilt"]:
        """Timestamps of the pictures that are lost, or that may be made from one that is.

        Those are all that are decoded behind it, up to the next keyframe and what is shown behind that.
        """
        numbers = np.arange(len(self.pts))
        is_lost = (self._columns[3] > 0) | np.isin(self.pts, [pts for pts in lost if pts is not None])
        num_lost = np.concatenate([[0], np.cumsum(is_lost)])
        keyframes = np.flatnonzero(self.is_keyframe | (numbers == 0))
        group = np.searchsorted(keyframes, numbers, side="right") - 1
        # A picture that is shown before its keyframe is made from the one before, too.
        group -= self.pts < self.pts[keyframes[group]]
        first = keyframes[np.maximum(group, 0)]
        return self.pts[num_lost[1:] > num_lost[first]]


def read_packets(path: Path, progress: bool) -> Packets:
    """The packets of a video file; a part that cannot be read ends them and counts as a broken one."""
    import av

    container, stream = open_container(path)
    with container:
        codec = stream.codec_context.codec.canonical_name
        declared_s = _declared_s(container, stream)
        packets = Packets(container.format.name, codec, float(stream.time_base), declared_s)
        try:
            for packet in tqdm(container.demux(), "read", unit="packet", delay=1, disable=not progress):
                # Those that only flush a decoder are empty.
                if packet.size:
                    packets.add(packet, packet.stream_index == stream.index)
        except av.FFmpegError:
            packets.num_broken += 1
    return packets


def _declared_s(container: Any, stream: Any) -> float:
    """By what the header says of length or frames; 0 if nothing, where FFmpeg guesses from the bit rate."""
    if container.format.name in _INDEXED_FORMATS:
        return (container.duration or 0) * 1e-6
    return stream.frames / float(stream.average_rate) if stream.frames and stream.average_rate else 0.0
