"""An animated picture (webp, png) or one of several pages (tiff), read by Pillow as frames."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from x2l.storage.fingerprint import file_fingerprint
from x2l.video.pictures import picture_errors, pixels, rgb

_SHORTEST_MS, _INSTEAD_MS = 10.0, 100.0
"""A frame that is given no more than the shortest is shown longer, as browsers do."""


class Animation:
    """The pictures of one file as frames: RGB, upright, and of the first one's size.

    All are decoded now, because only then webp tells how long they are shown, and again when they are asked
    for. Raises X2LError if one cannot be read.
    """

    reader = "pillow"

    def __init__(self, path: Path):
        self.path = path
        with picture_errors(path):
            self._file = Image.open(path)
            # A png may begin with a picture for those who cannot show the others.
            self._first = int(bool(self._file.info.get("default_image")))
            numbers = range(self._first, self._file.n_frames)
            self._durations_s = [self._duration_s(number) for number in numbers]
            self._size = self._picture(0).size

    def __len__(self) -> int:
        return len(self._durations_s)

    @property
    def num_bytes(self) -> int:
        return self.path.stat().st_size

    def bounds_s(self, fps: float) -> Float[np.ndarray, " bounds"]:
        """When each picture is shown, and the end; pages, which have no duration, are `fps` a second."""
        durations_s = [1 / fps if known is None else known for known in self._durations_s]
        return np.concatenate([[0.0], np.cumsum(durations_s)])

    def read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        with picture_errors(self.path):
            return np.stack([pixels(self._picture(index), self._size) for index in indices.tolist()])

    def digest(self) -> bytes:
        """sha256 of the name and the content."""
        return hashlib.sha256(f"{self.path.name}\0{file_fingerprint(self.path)}".encode()).digest()

    def _picture(self, index: int) -> Image.Image:
        self._file.seek(self._first + index)
        return rgb(self._file, self.path)

    def _duration_s(self, number: int) -> float | None:
        self._file.seek(number)
        self._file.load()
        if (ms := self._file.info.get("duration")) is None:
            return None
        return (ms if ms > _SHORTEST_MS else _INSTEAD_MS) / 1000
