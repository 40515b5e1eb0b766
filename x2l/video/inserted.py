"""A picture among the frames of a video."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from x2l.errors import X2LError
from x2l.storage.fingerprint import file_fingerprint
from x2l.video.footage import Footage
from x2l.video.pictures import only_picture, pixels
from x2l.video.sampling import Sampling


class Inserted(Footage):
    """The looked-at frames of a video with a picture in front of the `at`-th, all of them looked at.

    They are spread evenly over the video's time, and the picture is resized to their size.
    Raises X2LError for a place behind the last frame's end, and for what is no picture.
    """

    def __init__(self, video: Footage, picture: Path, at: int):
        if not 0 <= at <= video.num_frames:
            raise X2LError(f"{video.path}: has no place {at}, expected 0 to {video.num_frames}")
        num_frames = video.num_frames + 1
        times_s = np.arange(num_frames) * (video.duration_s / num_frames)
        super().__init__(video.path, times_s, video.duration_s, Sampling(num_frames=num_frames))
        self._video, self._path, self._at = video, picture, at
        self._picture = only_picture(picture)

    @property
    def reader(self) -> str:
        return self._video.reader

    def _content(self) -> dict[str, Any]:
        video = self._video.fingerprint()
        parts = (video["sha256"], self._video.num_frames, file_fingerprint(self._path), self._at)
        return {
            "bytes": video["bytes"] + self._path.stat().st_size,
            "sha256": hashlib.sha256(repr(parts).encode()).hexdigest()[:16],
        }

    def _read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        others = indices[indices != self._at]
        # A frame of the video tells the size where the picture is asked for alone.
        frames = self._video.frames(others - (others > self._at) if len(others) else np.array([0]))
        picture = pixels(self._picture, (frames.shape[2], frames.shape[1]))
        read = np.empty((len(indices), *frames.shape[1:]), np.uint8)
        read[indices == self._at] = picture
        read[indices != self._at] = frames[: len(others)]
        return read
