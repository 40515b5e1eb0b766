"""From a file to clips: where sampling, reading and chunking meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from x2l.config.paths import local_path
from x2l.errors import X2LError, unknown
from x2l.storage.fingerprint import file_fingerprint
from x2l.video.decord_reader import DecordReader
from x2l.video.footage import Footage
from x2l.video.pyav_reader import PyAVReader
from x2l.video.sampling import Sampling
from x2l.video.scan import Scan, scan
from x2l.video.stills import is_stills, open_stills

READERS = ("auto", "decord", "pyav")

_SAMPLING = Sampling()


class Video(Footage):
    """The sampled frames of a video file, decoded as `clips()` are asked for.

    Attributes beside those of Footage: native_fps, width and height (upright) of the whole video. `lost` is 0
    unless the file was salvaged.
    """

    def __init__(self, scan: Scan, sampling: Sampling, reader: str, salvage: bool):
        super().__init__(scan.path, scan.times_s, scan.duration_s, sampling)
        self.native_fps, self.width, self.height = scan.native_fps, scan.width, scan.height
        self.lost = scan.num_lost
        self._reader = DecordReader(scan) if reader == "decord" else PyAVReader(scan, salvage)

    @property
    def reader(self) -> str:
        """Name of the reader in use."""
        return "decord" if isinstance(self._reader, DecordReader) else "pyav"

    def _content(self) -> dict[str, Any]:
        return {"bytes": self.path.stat().st_size, "sha256": file_fingerprint(self.path)}

    def _read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        return self._reader.read(indices)


def open_video(
    path: str | Path,
    sampling: Sampling = _SAMPLING,
    reader: str = "auto",
    salvage: bool = False,
    progress: bool = False,
) -> Footage:
    """Open a video file, a folder of pictures (`sampling.picture_fps` a second) or a picture.

    A file's packets are read now (its frames too with `salvage`), clips when asked for. `reader` "auto" is
    PyAV, which is exact for every file, and faster; of decord's frames PyAV checks that they are whole.
    `salvage` uses those frames of a damaged file that PyAV can decode, and that are made from no lost ones.
    Raises X2LError if the file or an argument is not usable.
    """
    path = local_path(path)
    if reader not in READERS:
        raise unknown(f"reader {reader!r}", reader, READERS)
    if salvage and reader == "decord":
        raise X2LError("reader 'decord': cannot salvage, expected auto or pyav")
    if not is_stills(path):
        return Video(scan(path, salvage, progress), sampling, reader, salvage)
    if salvage or reader != "auto":
        raise X2LError(f"{path}: is made of pictures, a reader and salvage are for video files")
    return open_stills(path, sampling)
