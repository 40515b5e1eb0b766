"""Frames that a checkpoint is shown: those of a video, as if there were one a second.

Every model is then told whole seconds, which its own processor works out too.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from x2l.needles.dataset import write_dataset
from x2l.video import Footage, Sampling, open_video

_SCENES = 4


class Frames(Footage):
    """Frames in memory, one a second."""

    reader = "memory"

    def __init__(self, source: Footage, frames: UInt8[np.ndarray, "frames height width 3"]):
        sampling = Sampling(fps=1.0, max_frames=None)
        super().__init__(source.path, np.arange(len(frames), dtype=float), float(len(frames)), sampling)
        self.frames, self._made = frames, source.fingerprint()

    def _content(self) -> dict[str, Any]:
        return {name: self._made[name] for name in ("bytes", "sha256")}

    def _read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        return self.frames[indices]


def frames_of(path: str | Path, num_frames: int) -> Frames:
    """So many frames spread over a video, or all. Raises X2LError if it cannot be read."""
    video = open_video(path, Sampling(num_frames=num_frames))
    (clip,) = video.clips([video.num_frames])
    return Frames(video, clip.frames)


def sample_frames(num_frames: int) -> Frames:
    """Those of a small needle video, which is written, read and thrown away."""
    with TemporaryDirectory() as folder:
        write_dataset(folder, 1, 0, _SCENES, fps=1.0, seconds_per_scene=-(-num_frames // _SCENES))
        return frames_of(Path(folder) / "videos" / "0000.mp4", num_frames)
