"""Frames by decord, for the files that it reads exactly."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt8

from x2l.errors import X2LError
from x2l.video.pyav_reader import PyAVReader
from x2l.video.scan import Scan

_TOLERANCE_S = 2e-3
"""decord's timestamps are float32."""


class DecordReader:
    """Reads frames of a scanned file by index; fastest when the indices ascend.

    decord takes the n-th packet for the n-th frame and trusts every seek, so it returns wrong frames
    without a word where that fails: frames that an edit list trims off, frames shown before the keyframe
    they are decoded after (open GOP), containers without an index. These raise X2LError, as does
    a platform without decord. It hides what is broken, too: PyAV decodes the same frames, to find that.
    It turns pictures upright by itself.
    """

    def __init__(self, scan: Scan):
        self._path = scan.path
        if not scan.is_plain:
            raise self._failure("would give wrong frames for the structure of this file")
        try:
            import decord
        except (ImportError, OSError) as error:
            raise self._failure("is not installed") from error
        decord.logging.set_level(decord.logging.QUIET)
        try:
            self._reader = decord.VideoReader(str(scan.path.absolute()))
        except Exception as error:  # decord raises RuntimeError, DECORDError or whatever its C++ says
            raise self._failure("cannot open it") from error
        self._require_same_frames(scan)
        self._exact = PyAVReader(scan)

    def read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        """The frames at `indices` of the scan. Raises X2LError if one cannot be decoded."""
        self._exact.require(indices)
        try:
            batch = self._reader.get_batch(indices.tolist())
        except Exception as error:  # see __init__
            raise self._failure("cannot decode it") from error
        # It is a tensor if the program has set one of decord's bridges.
        return batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch)

    def _require_same_frames(self, scan: Scan) -> None:
        num_frames = len(self._reader)
        if num_frames == len(scan.pts):
            times_s = np.asarray(self._reader.get_frame_timestamp(range(num_frames)))[:, 0]
            if np.allclose(times_s - times_s[0], scan.times_s, rtol=1e-6, atol=_TOLERANCE_S):
                return
        raise self._failure("counts its frames differently")

    def _failure(self, reason: str) -> X2LError:
        return X2LError(f"{self._path}: reader decord {reason}, expected reader auto or pyav")
