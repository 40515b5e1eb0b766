"""Small pictures from videos, as data URLs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from x2l.drawing.thumbnail import thumbnail
from x2l.errors import X2LError
from x2l.video import Sampling, open_video

LONGEST = 144
"""Pixels of a picture's longer side."""


class Moment(NamedTuple):
    """Seconds into a video, of which the frames of a sampling are looked at."""

    video: Path
    sampling: Sampling
    time_s: float


def thumbnails(moments: Iterable[Moment], progress: bool) -> dict[Moment, str]:
    """A JPEG of each; none of moments in videos that are not there or cannot be decoded."""
    by_video: dict[tuple[Path, Sampling], list[Moment]] = {}
    for moment in moments:
        by_video.setdefault(moment[:2], []).append(moment)
    pictures, small = {}, partial(thumbnail, longest=LONGEST)
    for of_video in tqdm(by_video.values(), "pictures", unit="video", delay=1, disable=not progress):
        try:
            pictures |= zip(of_video, map(small, _frames(of_video)), strict=True)
        except (X2LError, OSError):
            continue
    return pictures


def _frames(moments: list[Moment]) -> UInt8[np.ndarray, "moments height width 3"]:
    """The last frame that is looked at by each of the moments in one video."""
    footage = open_video(*moments[0][:2])
    at = np.searchsorted(footage.times_s, [moment.time_s for moment in moments], side="right") - 1
    numbers, places = np.unique(at.clip(0), return_inverse=True)
    return footage.frames(numbers)[places]
