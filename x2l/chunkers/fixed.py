"""Chunker "fixed": so many frames each."""

from __future__ import annotations

from dataclasses import dataclass

from x2l.errors import require
from x2l.interfaces import Backbone, Chunker
from x2l.video import Footage


@dataclass
class Fixed(Chunker):
    """Equally many frames in each chunk; the last may be shorter.

    Source: Video-X^2L (arXiv 2506.21184), section 3.2.
    """

    frames: int = 10

    def __post_init__(self):
        require(self.frames >= 1, "chunk_frames.frames", "1 or more", self.frames)

    def lengths(self, video: Footage, backbone: Backbone | None, progress: bool = False) -> list[int]:
        return video.equal_parts(self.frames)
