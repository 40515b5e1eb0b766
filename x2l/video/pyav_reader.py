"""Frames by PyAV: every format that FFmpeg knows, exact to the frame, and what is left of a damaged file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from x2l.video.container import damaged, decode, open_container
from x2l.video.scan import Scan

_CLOSE_FRAMES = 8
"""A keyframe this close ahead is reached faster by decoding on than by a seek, which empties the decoder."""


class PyAVReader:
    """Reads frames of a scanned file by index; fastest when the indices ascend.

    With `salvage`, the file is decoded from its start, as it was when the frames that can be were found.
    """

    def __init__(self, scan: Scan, salvage: bool = False):
        self._scan = scan
        self._salvage = salvage
        self._can_seek = scan.can_seek and not salvage
        self._keyframes = np.searchsorted(scan.pts, scan.keyframe_pts)
        self._rewind()

    def read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        """The frames at `indices` of the scan. Raises X2LError if one cannot be decoded."""
        frames = np.empty((len(indices), self._scan.height, self._scan.width, 3), np.uint8)
        for row, index in zip(frames, indices.tolist(), strict=True):
            row[:] = self._rgb(self._find(index))
        return frames

    def _find(self, index: int) -> Any:
        pts = int(self._scan.pts[index])
        self._approach(index)
        while self._frame is not None and self._frame.pts < pts:
            self._advance()
        if self._frame is None:
            raise damaged(self._scan.path)
        return self._frame

    def _approach(self, index: int) -> None:
        """Stand at or before `index`, and not farther from it than need be."""
        keyframe = self._keyframe_before(index)
        here = self._position()
        if here <= index and (not self._can_seek or keyframe <= here + _CLOSE_FRAMES):
            return
        if self._can_seek and self._seek(keyframe) and self._position() <= index:
            return
        self._can_seek = False
        self._rewind()

    def _keyframe_before(self, index: int) -> int:
        before = np.searchsorted(self._keyframes, index, side="right") - 1
        return int(self._keyframes[before]) if before >= 0 else 0

    def _position(self) -> int:
        """Index of the current frame; behind the last one, the number of frames."""
        if self._frame is None:
            return len(self._scan.pts)
        return int(np.searchsorted(self._scan.pts, self._frame.pts))

    def _seek(self, keyframe: int) -> bool:
        import av

        try:
            self._container.seek(int(self._scan.pts[keyframe]), stream=self._stream)
        except av.FFmpegError:
            return False
        self._start()
        return True

    def _rewind(self) -> None:
        """Open the file anew: unlike a seek, this always arrives at the first frame."""
        self._container, self._stream = open_container(self._scan.path)
        if self._salvage:
            self._stream.codec_context.thread_count = 1
        else:
            self._stream.thread_type = "AUTO"
        self._start()

    def _start(self) -> None:
        self._frames: Iterator[Any] = decode(self._container, self._stream, self._scan.path, self._salvage)
        self._advance()

    def _advance(self) -> None:
        self._frame = next(self._frames, None)

    def _rgb(self, frame: Any) -> UInt8[np.ndarray, "height width 3"]:
        turns = self._scan.quarter_turns
        width, height = self._scan.width, self._scan.height
        if turns % 2:
            width, height = height, width
        # The size is given because it may change in the middle of a stream.
        return np.rot90(frame.to_ndarray(format="rgb24", width=width, height=height), turns)
