"""The base of video files and pictures: some of their frames, in clips."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from x2l.errors import X2LError
from x2l.types import Clip, VideoFacts
from x2l.video.sampling import Sampling


def equal_parts(num: int, size: int) -> list[int]:
    """Lengths of consecutive parts of `size`; the last may be shorter."""
    full, rest = divmod(num, size)
    return [size] * full + [rest] * (rest > 0)


class Footage(ABC):
    """The sampled frames of something, decoded as `clips()` are asked for.

    Attributes: path, what the frames come from; duration_s and frame_times_s [frames] of the whole; times_s
    [sampled], seconds of the sampled frames; lost, frames that could not be decoded.
    """

    lost: int = 0

    def __init__(
        self,
        path: Path,
        frame_times_s: Float[np.ndarray, " frames"],
        duration_s: float,
        sampling: Sampling,
    ):
        self.path, self.frame_times_s, self.duration_s = path, frame_times_s, duration_s
        self.sampling = sampling
        self._indices = sampling.indices(frame_times_s)
        self.times_s: Float[np.ndarray, " sampled"] = frame_times_s[self._indices]

    @property
    def num_frames(self) -> int:
        """Sampled frames."""
        return len(self._indices)

    @property
    def facts(self) -> VideoFacts:
        return VideoFacts(self.num_frames, self.duration_s, self.path)

    def equal_parts(self, frames: int) -> list[int]:
        """Frames of each of equally long parts; the last may be shorter."""
        return equal_parts(self.num_frames, frames)

    @property
    def lost_share(self) -> float:
        """Share of the frames that could not be decoded, 0..1."""
        return self.lost / (self.lost + len(self.frame_times_s))

    @property
    @abstractmethod
    def reader(self) -> str:
        """Name of what decodes the frames."""

    def span_s(self, first: int, last: int) -> tuple[float, float]:
        """From the start of one frame to the end of another, which are counted from 0 before sampling.

        Raises X2LError for a frame that there is not.
        """
        num_frames = len(self.frame_times_s)
        for frame in (first, last):
            if not 0 <= frame < num_frames:
                raise X2LError(f"{self.path}: has no frame {frame}, expected one of its {num_frames}")
        ends_s = [*self.frame_times_s[1:].tolist(), self.duration_s]
        return float(self.frame_times_s[first]), ends_s[last]

    def clips(self, lengths: Iterable[int] | None = None) -> Iterator[Clip]:
        """Clips of so many frames each (by default ten), in order; only the one in hand is held in memory.

        Raises X2LError if a frame cannot be decoded.
        """
        start = 0
        for length in self.equal_parts(10) if lengths is None else lengths:
            part = slice(start, start + length)
            yield Clip(self._read(self._indices[part]), self.times_s[part], start, self.facts)
            start += length

    def frames(self, numbers: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        """Some of the sampled frames, by ascending numbers. Raises X2LError if one cannot be decoded."""
        return self._read(self._indices[numbers])

    def fingerprint(self) -> dict[str, Any]:
        """Source of the frames as plain data: file name, bytes and hash, sampling, reader."""
        return {
            "file": self.path.absolute().name,
            **self._content(),
            "sampling": self.sampling.to_mapping(),
            "reader": self.reader,
            "num_frames": self.num_frames,
            "lost": self.lost,
        }

    @abstractmethod
    def _content(self) -> dict[str, Any]:
        """`bytes` and `sha256` of the frames' source."""

    @abstractmethod
    def _read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]: ...
