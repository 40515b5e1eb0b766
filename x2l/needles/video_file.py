"""Write frames as an inter-coded H.264 file: the form in which users' own videos arrive."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from x2l.storage.files import written_whole
from x2l.storage.hub import one_line
from x2l.types import X2LError

Frame = Shaped[np.ndarray, "..."]
"""uint8 RGB [height, width, 3]; checked here, one by one, because frames may be made while they are read."""


def write_video(
    path: str | Path,
    frames: Iterable[Frame],
    fps: float = 4.0,
    crf: int = 23,
    preset: str = "veryfast",
    gop_s: float = 4.0,
) -> int:
    """Encode RGB frames as H.264 (yuv420p, mp4) and return the bytes written.

    `frames` is consumed one by one, so a long video needs no memory; `gop_s` is the longest time between
    two key frames. The same frames and options give the same bytes (one thread, no dates in the file).
    The file appears under `path` only when it is complete.
    Raises X2LError for no frames, frames that cannot be read or are not uint8 RGB of one even size, or a
    file that cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise X2LError(f"{path}: expected an existing folder to write the video in")
    with written_whole(path) as partial:
        _encode(partial, _checked(_readable(frames)), fps, crf, preset, gop_s)
        return partial.stat().st_size


def compressed(
    frame: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """Through JPEG with 4:2:0 chroma: the block artefacts of a video codec at a fraction of its time."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=int(rng.integers(25, 90)), subsampling=2)
    return np.asarray(Image.open(buffer))


def _readable(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The same frames; where they cannot be read, it is not the file being written that fails."""
    try:
        yield from frames
    except OSError as error:
        raise X2LError(f"frames: cannot be read, {one_line(error)}") from error


def _checked(frames: Iterable[Frame]) -> Iterator[Frame]:
    shape = None
    for number, frame in enumerate(frames):
        shape = shape or frame.shape
        if frame.dtype != np.uint8 or frame.shape != shape or frame.ndim != 3 or frame.shape[2] != 3:
            wanted = "uint8 [height, width, 3], all of one size"
            raise X2LError(f"frames: expected {wanted}; frame {number} is {frame.dtype} {frame.shape}")
        if shape[0] % 2 or shape[1] % 2:
            raise X2LError(f"frames: height and width must be even for yuv420p, got {shape[0]}x{shape[1]}")
        yield frame


def _encode(path: Path, frames: Iterator[Frame], fps: float, crf: int, preset: str, gop_s: float) -> None:
    first = next(frames, None)
    if first is None:
        raise X2LError("frames: expected at least one frame, got none")
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = max(2, round(gop_s * fps))
        # With x264's macroblock tree the bytes of small pictures differ from run to run, even on one thread.
        stream.options = {"crf": str(crf), "preset": preset, "x264-params": "threads=1:mbtree=0"}
        for frame in chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode())
