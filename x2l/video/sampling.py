"""Rules for which frames of a video are looked at."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from x2l.errors import X2LError

_MOST = 10_000_000
"""Frames that can be asked for: more than those of three days."""
_ROUNDING_S = 1e-3
"""Containers such as webm round timestamps to the millisecond."""


@dataclass(frozen=True)
class Sampling:
    """Frames at a fixed rate, or a fixed number of frames spread over the whole video.

    Raises X2LError for a value that is out of range.
    """

    num_frames: int | None = None
    """If given, this many frames, first and last included, or all if there are fewer; `fps` and `max_frames`
    are then ignored."""

    fps: float | None = 1.0
    """The first frame at or after each of the times i / fps seconds."""

    max_frames: int | None = 2048
    """Sampling by `fps` that would take more frames takes this many, spread uniformly (None = no limit)."""

    picture_fps: float = 1.0
    """Pictures a second of a folder of pictures, which has no times of its own."""

    def __post_init__(self):
        _require_count("num_frames", self.num_frames)
        _require_count("max_frames", self.max_frames)
        if self.num_frames is not None and self.num_frames > _MOST:
            raise X2LError(f"sampling.num_frames: expected at most {_MOST:,}, got {self.num_frames}")
        if self.num_frames is None and self.fps is None:
            raise X2LError("sampling: expected num_frames or fps, got neither")
        if self.fps is not None and not _is_positive(self.fps):
            raise X2LError(f"sampling.fps: expected frames per second above 0, got {self.fps!r}")
        if not _is_positive(self.picture_fps):
            given = repr(self.picture_fps)
            raise X2LError(f"sampling.picture_fps: expected pictures per second above 0, got {given}")

    def to_mapping(self) -> dict[str, Any]:
        """The fields as plain data; without `picture_fps` at its default, as older indices hold them."""
        mapping = asdict(self)
        if self.picture_fps == 1:
            del mapping["picture_fps"]
        return mapping

    def indices(self, times_s: Float[np.ndarray, " frames"]) -> Int[np.ndarray, " sampled"]:
        """Indices into a video's frames, whose ascending times are `times_s`."""
        if self.num_frames is not None:
            return _uniform(len(times_s), self.num_frames)
        at_rate = _at_rate(times_s, self.fps)
        if self.max_frames is not None and len(at_rate) > self.max_frames:
            return _uniform(len(times_s), self.max_frames)
        return at_rate


def _uniform(total: int, num_frames: int) -> Int[np.ndarray, " sampled"]:
    return np.linspace(0, total - 1, min(num_frames, total)).astype(np.int64)


def _at_rate(times_s: Float[np.ndarray, " frames"], fps: float) -> Int[np.ndarray, " sampled"]:
    """A frame is the first at or after some i / fps iff more of those times have passed than a frame ago."""
    passed = np.floor((times_s - times_s[0] + _ROUNDING_S) * fps)
    return np.flatnonzero(np.diff(passed, prepend=-1.0) > 0)


def _require_count(name: str, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise X2LError(f"sampling.{name}: expected a whole number of at least 1, got {value!r}")


def _is_positive(value: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0
