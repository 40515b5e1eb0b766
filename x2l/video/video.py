"""From a file to clips: the one place where sampling, reading and chunking meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from x2l.errors import X2LError, unknown
from x2l.fingerprint import file_fingerprint
from x2l.types import Clip, VideoFacts
from x2l.video.decord_reader import DecordReader
from x2l.video.pyav_reader import PyAVReader
from x2l.video.sampling import Sampling
from x2l.video.scan import Scan, scan

READERS = ("auto", "decord", "pyav")

_SAMPLING = Sampling()


class Video:
    """The sampled frames of a video file, decoded as `clips()` are asked for.

    Attributes: path; duration_s, native_fps, width and height (upright) of the whole video; times_s
    [sampled], seconds of the sampled frames; lost, frames that could not be decoded (0 unless salvaged).
    """

    def __init__(self, scan: Scan, sampling: Sampling, reader: str, chunk_frames: int, salvage: bool):
        self.path = scan.path
        self.duration_s, self.native_fps = scan.duration_s, scan.native_fps
        self.width, self.height = scan.width, scan.height
        self.sampling, self.chunk_frames = sampling, chunk_frames
        self.lost = scan.num_lost
        self._num_readable = len(scan.pts)
        self._indices = sampling.indices(scan.times_s)
        self.times_s: Float[np.ndarray, " sampled"] = scan.times_s[self._indices]
        self._scan, self._falls_back = scan, reader == "auto"
        self._reader = _make_reader(scan, reader, salvage)

    @property
    def num_frames(self) -> int:
        """Sampled frames."""
        return len(self._indices)

    @property
    def facts(self) -> VideoFacts:
        return VideoFacts(self.num_frames, self.duration_s)

    @property
    def num_chunks(self) -> int:
        return -(-self.num_frames // self.chunk_frames)

    @property
    def lost_share(self) -> float:
        """Share of the file's frames that could not be decoded, 0..1."""
        return self.lost / (self.lost + self._num_readable)

    @property
    def reader(self) -> str:
        """Name of the reader in use; "auto" may have fallen back to pyav."""
        return "decord" if isinstance(self._reader, DecordReader) else "pyav"

    def clips(self) -> Iterator[Clip]:
        """Up to `chunk_frames` frames at a time, in order; only the one in hand is held in memory.

        Raises X2LError if a frame cannot be decoded.
        """
        for start in range(0, self.num_frames, self.chunk_frames):
            part = slice(start, start + self.chunk_frames)
            yield Clip(self._read(self._indices[part]), self.times_s[part], start, self.facts)

    def fingerprint(self) -> dict[str, Any]:
        """What the frames were made from, as plain data: file name, bytes and hash, sampling, reader."""
        return {
            "file": self.path.name,
            "bytes": self.path.stat().st_size,
            "sha256": file_fingerprint(self.path),
            "sampling": asdict(self.sampling),
            "reader": self.reader,
            "num_frames": self.num_frames,
            "lost": self.lost,
        }

    def _read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        try:
            return self._reader.read(indices)
        except X2LError:
            if not (self._falls_back and isinstance(self._reader, DecordReader)):
                raise
            self._reader = PyAVReader(self._scan)
            return self._reader.read(indices)


def open_video(
    path: str | Path,
    sampling: Sampling = _SAMPLING,
    reader: str = "auto",
    chunk_frames: int = 10,
    salvage: bool = False,
    progress: bool = False,
) -> Video:
    """Open a video file; its packets are read now (its frames too with `salvage`), clips when asked for.

    `reader` "auto" is decord, and PyAV where decord is missing or fails. `salvage` uses the frames of a
    damaged file that PyAV can decode. Raises X2LError if the file or an argument is not usable.
    """
    if reader not in READERS:
        raise unknown(f"reader {reader!r}", reader, READERS)
    if chunk_frames < 1:
        raise X2LError(f"chunk_frames: expected at least 1, got {chunk_frames}")
    if salvage and reader == "decord":
        raise X2LError("reader 'decord': cannot salvage, expected auto or pyav")
    return Video(scan(Path(path), salvage, progress), sampling, reader, chunk_frames, salvage)


def _make_reader(scan: Scan, reader: str, salvage: bool) -> DecordReader | PyAVReader:
    if salvage or reader == "pyav":
        return PyAVReader(scan, salvage)
    try:
        return DecordReader(scan)
    except X2LError:
        if reader == "decord":
            raise
        return PyAVReader(scan)
