"""Video files damaged at random are read or refused in one line: no traceback, no hang, no crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from video_files import REALTIME, cut_short, remuxed, shown_index, write_video

from x2l.errors import X2LError
from x2l.video import Sampling, open_video
from x2l.video.container import one_line_errors

FORMATS = {
    "mp4": {"codec": "libx264"},
    "webm": {"codec": "libvpx-vp9", "options": REALTIME},
    "avi": {"codec": "mpeg4"},
    "ts": {"codec": "libx264"},
}
SAMPLING = Sampling(num_frames=12)


def damaged(data: bytes, seed: int) -> bytes:
    """A copy with flipped bits, without its end, or with bytes overwritten, removed or put between."""
    rng = np.random.default_rng(seed)
    start, noise = int(rng.integers(len(data))), rng.bytes(int(rng.integers(1, 200)))
    if seed % 5 == 0:
        flipped = np.frombuffer(data, np.uint8).copy()
        flipped[rng.integers(len(data), size=rng.integers(1, 9))] ^= np.uint8(1 << rng.integers(8))
        return flipped.tobytes()
    behind = start + len(noise)
    return data[:start] + [b"", noise + data[behind:], data[behind:], noise + data[start:]][seed % 5 - 1]


def tried(path: Path, salvage: bool) -> str:
    """ "read", or the line that says why not; anything else is raised."""
    try:
        for _ in open_video(path, SAMPLING, salvage=salvage).clips():
            pass
    except X2LError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error), error
        return str(error)
    return "read"


def main(folder: Path, first: int, last: int) -> None:
    """Print what comes of each damaged copy; a process of its own, that a decoder may crash."""
    for suffix, of_format in FORMATS.items():
        data = write_video(folder / f"whole.{suffix}", num_frames=30, **of_format).read_bytes()
        for seed in range(first, last):
            path = folder / f"{seed}.{suffix}"
            path.write_bytes(damaged(data, seed))
            for salvage in (False, True):
                print(json.dumps([seed, suffix, salvage, tried(path, salvage)]), flush=True)
            path.unlink()


@pytest.mark.parametrize("seeds", [(0, 50), pytest.param((50, 1000), marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused(tmp_path, seeds):
    command = [sys.executable, __file__, str(tmp_path), *map(str, seeds)]
    per_copy_s = 0.5
    num_tries = 2 * len(FORMATS) * (seeds[1] - seeds[0])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    timeout = 60 + per_copy_s * num_tries
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (rows[-1:], done.stderr[-2000:])
    was_read = Counter((suffix, salvage) for _, suffix, salvage, said in rows if said == "read")
    assert len(rows) == num_tries
    for suffix in FORMATS:
        assert 0 < was_read[suffix, False] < was_read[suffix, True] < num_tries / len(FORMATS) / 2


@pytest.mark.parametrize(
    "title", ["Zürich Café".encode("latin-1"), "视频标题".encode("gbk"), b"\xff\xfe\x00\xd8"]
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_tags_need_not_be_utf8(tmp_path, suffix, title):
    source = write_video(tmp_path / f"plain.{suffix}", "mpeg4", num_frames=30)
    path = remuxed(source, tmp_path / f"tagged.{suffix}", title="?" * len(title))
    data = path.read_bytes()
    assert data.count(b"?" * len(title)) > 0
    path.write_bytes(data.replace(b"?" * len(title), title))
    for salvage in (False, True):
        (clip,) = open_video(path, Sampling(num_frames=6), salvage=salvage).clips()
        assert [shown_index(frame) for frame in clip.frames] == [0, 5, 11, 17, 23, 29]


@pytest.mark.parametrize("error", [ValueError("two\nlines"), MemoryError(), b"\xff".decode])
def test_whatever_a_library_raises_is_one_line_that_names_the_file(error):
    with (
        pytest.raises(X2LError, match=r"odd\.mp4: cannot be read, .*\((two lines|MemoryError|'utf-8' .*)\)$"),
        one_line_errors(Path("odd.mp4")),
    ):
        raise error if isinstance(error, Exception) else error()


def test_an_avi_without_its_end_is_refused(tmp_path):
    source = write_video(tmp_path / "whole.avi", "mpeg4", num_frames=60, seed=0)
    with pytest.raises(X2LError, match="truncated"):
        open_video(cut_short(source, tmp_path / "cut.avi"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
