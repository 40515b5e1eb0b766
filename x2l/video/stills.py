"""Pictures as a video: a folder of frames, some images, or frames in memory."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from x2l.errors import X2LError
from x2l.video.animation import Animation
from x2l.video.footage import Footage
from x2l.video.pictures import NAMES, PictureFiles, holds_pictures, is_animated, is_picture, pictures_in
from x2l.video.sampling import Sampling

_SAMPLING = Sampling()


class FrameArray:
    """Frames in memory."""

    reader = "memory"

    def __init__(self, frames: UInt8[np.ndarray, "frames height width 3"]):
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def num_bytes(self) -> int:
        return self.frames.nbytes

    def read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        return self.frames[indices]

    def digest(self) -> bytes:
        """sha256 of the pixels and their shape."""
        digest = hashlib.sha256(repr(self.frames.shape).encode())
        digest.update(np.ascontiguousarray(self.frames))
        return digest.digest()


class Stills(Footage):
    """Pictures that stand for the frames of a video; `open_stills` and `stills_of` make it."""

    def __init__(
        self,
        path: Path,
        pictures: PictureFiles | Animation | FrameArray,
        times_s: Float[np.ndarray, " frames"],
        duration_s: float,
        sampling: Sampling,
    ):
        super().__init__(path, times_s, duration_s, sampling)
        self._pictures = pictures

    @property
    def reader(self) -> str:
        return self._pictures.reader

    def _content(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._pictures.digest() + self.frame_times_s.tobytes())
        return {"bytes": self._pictures.num_bytes, "sha256": digest.hexdigest()[:16]}

    def _read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        return self._pictures.read(indices)


def is_stills(path: Path) -> bool:
    """Whether a path names pictures (a folder of them, or one), not a video file."""
    return holds_pictures(path) or (is_picture(path) and not os.path.isdir(path))


def open_stills(
    source: str | Path | Sequence[str | Path],
    sampling: Sampling = _SAMPLING,
    fps: float | None = None,
) -> Stills:
    """A folder of frames in natural order, one picture, or pictures in the given order.

    They are `fps` a second; by default as many as the sampling says.

    An animated picture, if it is the only one, has times of its own. Pictures of another size than the first
    are resized to it. They are decoded as clips are asked for, the first also now.

    Raises X2LError if there is none, it cannot be read, or an argument is out of range.
    """
    fps = sampling.picture_fps if fps is None else fps
    if not (fps > 0 and math.isfinite(fps)):
        raise X2LError(f"fps: expected pictures per second above 0, got {fps!r}")
    paths = _paths(source)
    path = Path(source) if isinstance(source, str | Path) else paths[0]
    is_animation = len(paths) == 1 and is_animated(paths[0])
    pictures = Animation(paths[0]) if is_animation else PictureFiles(paths)
    *starts_s, end_s = pictures.bounds_s(fps).tolist()
    return Stills(path, pictures, np.array(starts_s), end_s, sampling)


def stills_of(
    frames: Shaped[np.ndarray, "..."],
    times_s: Shaped[np.ndarray, "..."],
    name: str,
    sampling: Sampling = _SAMPLING,
) -> Stills:
    """Frames that are in memory: uint8 RGB [frames, height, width, 3], with their times in seconds, from 0.

    The last frame is taken to last as long as the mean one (a single one: a second). Raises X2LError for
    frames or times of another kind, and for times that do not ascend from 0.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise X2LError(
            f"{name}: expected uint8 frames [frames, height, width, 3], got {frames.dtype} {frames.shape}"
        )
    times_s = np.asarray(times_s, float)
    if times_s.shape != (len(frames),) or times_s[0] != 0 or not (np.diff(times_s) > 0).all():
        raise X2LError(f"{name}: expected {len(frames)} times that ascend from 0, got {times_s.tolist()}")
    last_s = float(times_s[-1])
    duration_s = last_s + (last_s / (len(times_s) - 1) if last_s else 1.0)
    return Stills(Path(name), FrameArray(frames), times_s, duration_s, sampling)


def _paths(source: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    if not isinstance(source, str | Path):
        paths = tuple(map(Path, source))
        if not paths:
            raise X2LError("pictures: expected at least one, got none")
        return paths
    folder = Path(source)
    if not folder.is_dir():
        return (folder,)
    if paths := pictures_in(folder):
        return paths
    raise X2LError(f"{folder}: is a directory without pictures, expected {NAMES} files")
