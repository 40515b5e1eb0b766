"""Frames by PyAV: every format that FFmpeg knows, exact to the frame, and what is left of a damaged file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from x2l.errors import X2LError
from x2l.video.container import damaged, decode, one_line_errors, open_decoder
from x2l.video.scan import Scan

_CLOSE_FRAMES = 8
"""A keyframe this close ahead is reached faster by decoding on than by a seek, which empties the decoder."""


class PyAVReader:
    """Reads frames of a scanned file by index; fastest when the indices ascend.

    With `salvage`, the file is decoded from its start, as it was when the frames that can be were found.
    """

    def __init__(self, scan: Scan, salvage: bool = False):
        from av.video.reformatter import VideoReformatter

        self._scan = scan
        self._salvage = salvage
        self._can_seek = scan.can_seek and not salvage
        self._index_of = {pts: index for index, pts in enumerate(scan.pts.tolist())}
        self._keyframes = np.searchsorted(scan.pts, scan.keyframe_pts)
        self._reformatter = VideoReformatter()  # one for all frames: it takes long to set up
        with one_line_errors(scan.path):
            self._rewind()

    def read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        """The frames at `indices` of the scan. Raises X2LError if one cannot be decoded."""
        with one_line_errors(self._scan.path):
            frames = np.empty((len(indices), self._scan.height, self._scan.width, 3), np.uint8)
            for row, index in zip(frames, indices.tolist(), strict=True):
                row[:] = self._rgb(self._find(index))
        return frames

    def require(self, indices: Int[np.ndarray, " frames"]) -> None:
        """Raises X2LError if one of the frames cannot be decoded."""
        with one_line_errors(self._scan.path):
            for index in indices.tolist():
                self._find(index)

    def _find(self, index: int) -> Any:
        self._approach(index)
        while self._index < index:
            self._advance()
        if self._index == index:
            return self._frame
        if self._before is None or not self._scan.may_skip[index]:
            raise damaged(self._scan.path)
        return self._before

    def _approach(self, index: int) -> None:
        """Stand at or before `index`, and not farther from it than need be."""
        keyframe = self._keyframe_before(index)
        here = self._index
        if here <= index and (not self._can_seek or keyframe <= here + _CLOSE_FRAMES):
            return
        if self._can_seek and self._seek(keyframe) and self._index <= index:
            return
        self._can_seek = False
        self._rewind()

    def _keyframe_before(self, index: int) -> int:
        before = np.searchsorted(self._keyframes, index, side="right") - 1
        return int(self._keyframes[before]) if before >= 0 else 0

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
        self._container, self._stream = open_decoder(self._scan.path)
        self._start()

    def _start(self) -> None:
        frames = decode(self._container, self._stream, self._scan.path, set() if self._salvage else None)
        self._frames = _held_back(frames, 0 if self._salvage else self._scan.num_reordered)
        self._index, self._frame, self._before = -1, None, None
        self._advance()

    def _advance(self) -> None:
        """Go to the next frame of the scan; behind the last one stands None."""
        self._before = self._frame
        self._frame = next((frame for frame in self._frames if frame.pts in self._index_of), None)
        index = len(self._scan.pts) if self._frame is None else self._index_of[self._frame.pts]
        if index < self._index:
            problem = "its timestamps are not in the order of its frames; --salvage goes by the frames"
            raise X2LError(f"{self._scan.path}: {problem}")
        self._index = index

    def _rgb(self, frame: Any) -> UInt8[np.ndarray, "height width 3"]:
        turns = self._scan.quarter_turns
        width, height = self._scan.width, self._scan.height
        if turns % 2:
            width, height = height, width
        # The size is given because it may change in the middle of a stream.
        rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24")
        return np.rot90(rgb.to_ndarray(), turns)


def _held_back(frames: Iterator[Any], num: int) -> Iterator[Any]:
    """Frames, each given once so many behind it are decoded: it may be made from them, and they be broken."""
    held: deque[Any] = deque()
    for frame in frames:
        held.append(frame)
        if len(held) > num:
            yield held.popleft()
    yield from held
