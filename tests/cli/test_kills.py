"""`x2l index` killed at any moment leaves the index that was there, or a whole new one, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

VIDEO = "examples/needles.mp4"
NUM_KILLS = 24


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from x2l.cli.app import main; main()", *arguments]


def contents(folder: Path) -> tuple[list[str], dict, dict[str, bytes]]:
    """Names of files, the manifest without clocks, and the bytes of every tensor."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["spec"]["seconds"], manifest["tensors_header"]
    tensors = {
        name: tensor.numpy().tobytes() for name, tensor in load_file(folder / "tensors.safetensors").items()
    }
    return sorted(path.name for path in folder.iterdir()), manifest, tensors


@pytest.mark.slow
def test_an_index_is_whole_or_what_it_was_whenever_it_is_killed(tmp_path):
    old = command("index", VIDEO, "-o", str(tmp_path / "index"), "--set", "ratios=[2,8]")
    new = command("index", VIDEO, "-o", str(tmp_path / "index"))
    begun = time.perf_counter()
    subprocess.run(command("index", VIDEO, "-o", str(tmp_path / "fresh")), check=True, capture_output=True)
    seconds = time.perf_counter() - begun
    subprocess.run(old, check=True, capture_output=True)
    before, after = contents(tmp_path / "index"), contents(tmp_path / "fresh")
    seen = []
    for wait in np.random.default_rng(0).uniform(0.3, 1.1, NUM_KILLS) * seconds:
        process = subprocess.Popen(new, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait)
        process.kill()
        process.wait()
        left = contents(tmp_path / "index")
        assert left in (before, after)
        seen.append(left == after)
        if seen[-1]:
            subprocess.run(old, check=True, capture_output=True)
    assert not all(seen)
    subprocess.run(new, check=True, capture_output=True)
    assert contents(tmp_path / "index") == after
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "index"]
