"""Contents of a video file, read from its packets; of its pictures only the first few are decoded.

Both readers rely on it: it knows the time of every frame, and finds once for all whether the file is
whole. Every error is an X2LError of one line that names the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from x2l.errors import X2LError
from x2l.video.container import damaged, decode, one_line_errors, open_decoder
from x2l.video.packets import Packets, read_packets

_NUM_FIRST = 32
"""Frames that are decoded to learn whether timestamps tell the order in which they are shown."""

_INTRA = 1
"""FFmpeg's number of the type of a picture that is made from no other."""


@dataclass(frozen=True)
class Scan:
    """The frames of a video file, in the order they are shown.

    `pts` are the container's timestamps in units of `time_base_s`; each frame has one of its own. Sizes are
    those of the upright picture, which is `quarter_turns` counter-clockwise from the stored one.
    """

    path: Path
    pts: Int[np.ndarray, " frames"]
    keyframe_pts: Int[np.ndarray, " keyframes"]
    time_base_s: float
    last_s: float
    """How long the last frame is shown; 0 if the file does not say."""
    width: int
    height: int
    quarter_turns: int
    num_reordered: int
    """Frames that are decoded before another and shown after it, at most."""
    can_seek: bool
    """A seek in this container arrives where it was sent."""
    is_plain: bool
    """Also, each packet is one shown frame, and none is shown before the keyframe it is decoded after."""
    may_skip: Bool[np.ndarray, " frames"]
    """The decoder may leave this frame out, and the one before stays on the screen; else that is damage."""
    start_pts: int
    """The time that `times_s` are counted from: of the first frame, even if it is lost."""
    num_lost: int = 0
    """Frames that cannot be decoded (estimated for a missing end); counted by `salvage` only."""

    @cached_property
    def times_s(self) -> Float[np.ndarray, " frames"]:
        """Seconds since the start."""
        return (np.sort(self.pts) - self.start_pts) * self.time_base_s

    @property
    def native_fps(self) -> float:
        """Mean frames per second; 1 for a single frame."""
        span_s = float(self.times_s[-1] - self.times_s[0])
        return (len(self.pts) - 1) / span_s if len(self.pts) > 1 else 1.0

    @property
    def duration_s(self) -> float:
        """Seconds up to the end of the last frame; it lasts as long as the mean one if nothing says."""
        return float(self.times_s[-1]) + (self.last_s or 1 / self.native_fps)


def scan(path: Path, salvage: bool = False, progress: bool = False) -> Scan:
    """Read the packets of a video file; with `salvage`, decode it too, to know what can be.

    It is decoded too if timestamps contradict the order of its first frames, which the decoder knows.
    Raises X2LError if it is not a video or, without `salvage`, if a part of it is missing.
    """
    with one_line_errors(path):
        packets = read_packets(path, progress)
        if not salvage and (packets.num_broken or packets.missing_s):
            raise damaged(path)
        if not len(packets.shown_pts):
            raise X2LError(f"{path}: its frames have no timestamps, expected a container such as mp4 or webm")
        first, is_ordered = _start(path, salvage)
        # A first picture that is made from others lacks them, if the container agrees that it is no keyframe.
        early = packets.pts[: packets.num_early if first.pict_type != _INTRA else 0]
        if is_ordered and not salvage:
            pts, num_lost = _without(early, packets, first.pts, path), 0
        else:
            pts, num_lost = _decoded(early, packets, salvage, path, progress)
        quarter_turns = round(first.rotation / 90) % 4
        sides = (first.width, first.height)
        return Scan(
            path,
            pts,
            packets.keyframe_pts,
            packets.time_base_s,
            last_s=packets.duration_s(int(pts.max())),
            width=sides[quarter_turns % 2],
            height=sides[1 - quarter_turns % 2],
            quarter_turns=quarter_turns,
            num_reordered=packets.num_reordered(pts),
            can_seek=is_ordered and packets.is_indexed,
            is_plain=is_ordered and packets.is_indexed and packets.are_plain,
            may_skip=packets.may_skip(pts),
            start_pts=int(packets.shown_pts[0] if salvage else pts.min()),
            num_lost=num_lost,
        )


def _start(path: Path, salvage: bool) -> tuple[Any, bool]:
    """The first frame, and whether the timestamps of the first few ascend."""
    container, stream = open_decoder(path)
    with container:
        frames = decode(container, stream, path, set() if salvage else None)
        first = next(frames, None)
        if first is None:
            raise _hopeless(path)
        num_others = _NUM_FIRST - 1 if stream.codec_context.has_b_frames else 0
        pts = [first.pts, *(frame.pts for frame in islice(frames, num_others))]
    return first, pts == sorted(pts)


def _without(
    early: Int[np.ndarray, " early"], packets: Packets, first: int, path: Path
) -> Int[np.ndarray, " frames"]:
    """Timestamps of all frames but those that cannot be made, because the recording starts behind others."""
    pts = np.setdiff1d(packets.shown_pts, early)
    left_out = pts[(pts >= packets.pts[len(early)]) & (pts < first)]
    if not packets.may_skip(left_out).all() or (len(early) and not packets.may_start_late):
        raise damaged(path)
    return pts[pts >= first]


def _decoded(
    early: Int[np.ndarray, " early"], packets: Packets, salvage: bool, path: Path, progress: bool
) -> tuple[Int[np.ndarray, " frames"], int]:
    """Timestamps of all frames in the order that the decoder shows them, and how many frames are lost.

    With `salvage`, without those that are made from lost ones.
    """
    container, stream = open_decoder(path)
    lost: set[int | None] | None = set(early.tolist()) if salvage else None
    with container:
        frames = decode(container, stream, path, lost)
        bar = tqdm(frames, "decode", len(packets.pts), unit="frame", delay=1, disable=not progress)
        decoded = np.array(list(dict.fromkeys(frame.pts for frame in bar)), np.int64)
    if lost is None:
        return decoded, 0
    left_out = np.setdiff1d(packets.shown_pts, decoded)
    may_skip = packets.may_skip(left_out)
    lost |= set(left_out[~may_skip].tolist())
    whole = decoded[~np.isin(decoded, packets.spoilt_by(lost))]
    if not len(whole):
        raise _hopeless(path)
    num_skipped = len(set(left_out[may_skip].tolist()) - lost)
    return whole, max(0, packets.num_expected - num_skipped - len(whole))


def _hopeless(path: Path) -> X2LError:
    return X2LError(f"{path}: corrupted, none of its frames can be decoded")
