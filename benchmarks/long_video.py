"""Indexing a long video: seconds and memory for each chunk, two passes against one.

    python benchmarks/long_video.py --frames 10000 --out benchmarks/long_video_cpu.json

x2l-tiny on one thread, frames of noise that are drawn when they are read, a process of its own for each way
to make the levels. Ways whose chunks take ever longer stop at 2,000 frames. Seconds of a chunk are medians
over twenty-five; peak memory is the process's, libraries too.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from x2l import Pipeline, build
from x2l.host_memory import HostMemory
from x2l.pipeline import indexing
from x2l.video import Footage, Sampling

WAYS = {
    "two passes": {"passes": "own"},
    "joint low": {"passes": "joint", "memory": "low"},
    "joint high": {"passes": "joint", "memory": "high"},
    "pooled": {"passes": "pooled"},
    "clustered": {"passes": "clustered"},
}
CHUNK, WINDOW, SIZE = 10, 25, 64
FLAT, MOST_OF_OTHERS = "joint high", 2000


class Noise(Footage):
    """Frames of noise, one a second, drawn when they are read."""

    reader = "noise"

    def __init__(self, num_frames: int):
        sampling = Sampling(fps=1.0, max_frames=None)
        super().__init__(Path("noise"), np.arange(float(num_frames)), float(num_frames), sampling)

    def _content(self):
        return {}

    def _read(self, indices):
        rng = np.random.default_rng(int(indices[0]))
        return rng.integers(0, 256, (len(indices), SIZE, SIZE, 3), dtype=np.uint8)


@torch.no_grad()
def measured(way: str, num_frames: int) -> dict:
    """Seconds of every chunk, from reading its frames to its KVs in host memory, and the peak memory."""
    torch.set_num_threads(1)
    parts = build("oracle", "annotated"), build("selector", {"name": "top_k", "k": 3})
    pipeline = Pipeline(
        build("backbone", "x2l_tiny"), build("compressor", {"name": "vst", **WAYS[way]}), *parts
    )
    video = Noise(num_frames)
    prefix = pipeline.backbone.begin(video.facts)
    clips = video.clips(tqdm(video.equal_parts(CHUNK), way, delay=1))
    kept, seconds, host, start = [], [], HostMemory(pipeline.backbone.device), time.perf_counter()
    for chunk in pipeline.encode(prefix, pipeline.read(clips, prefix.num_tokens)):
        kept.append(indexing.in_host_memory(chunk, host))
        now = time.perf_counter()
        seconds.append(now - start)
        start = now
    stored = sum(level.num_bytes for chunk in kept for level in chunk.levels.values())
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    windows = [seconds[i : i + WINDOW] for i in range(0, len(seconds), WINDOW)]
    return {
        "seconds_per_chunk": [round(float(np.median(window)), 5) for window in windows],
        "seconds": round(sum(seconds), 2),
        "peak_memory_gb": round(peak_kb / 1e6, 3),
        "stored_gb": round(stored / 1e9, 3),
    }


def in_a_process(way: str, num_frames: int) -> dict:
    """Measured where no other way has left memory behind."""
    command = [sys.executable, __file__, "--frames", str(num_frames), "--way", way]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def draw(rows: dict[str, dict], path: Path) -> None:
    """Seconds of a chunk over the frames in front of it."""
    from matplotlib.figure import Figure

    figure = Figure((6, 3.4), layout="constrained")
    axes = figure.subplots()
    for way, row in rows.items():
        at = CHUNK * WINDOW * (np.arange(len(row["seconds_per_chunk"])) + 0.5)
        axes.plot(at, 1000 * np.array(row["seconds_per_chunk"]), label=way)
    axes.set(xlabel="frames in front of the chunk", ylabel="milliseconds per chunk", ylim=(0, None))
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=10000)
    parser.add_argument("--out", type=Path, help="JSON; the plot goes beside it")
    parser.add_argument("--way", choices=WAYS, help="only this one, on stdout")
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measured(given.way, given.frames)))
        return
    rows = {}
    for way in WAYS:
        frames = given.frames if way == FLAT else min(given.frames, MOST_OF_OTHERS)
        rows[way] = {"frames": frames, **in_a_process(way, frames)}
    report = {
        "date": date.today().isoformat(),
        "cpu": platform.processor() or platform.machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "rows": rows,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
        draw(rows, given.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
