"""An environment with lmms-eval, which wants an av before 16, where other tests have a later one.

It is built from the checkout, which takes minutes and downloads what lmms-eval needs.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """Runs a program of an environment with x2l[lmms]; what decides a number is as it is here."""
    folder = tmp_path_factory.mktemp("lmms")
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    torch, transformers = (pin for pin in pins if pin.startswith(("torch==", "transformers==")))
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program, *arguments, **environment) -> str:
        command = [str(part) for part in (folder / "env" / "bin" / program, *arguments)]
        done = subprocess.run(command, cwd=folder, env=clean | environment, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout

    run("pip", "install", "-q", torch)
    run("pip", "install", "-q", f"{ROOT}[lmms]", torch, transformers)
    # Beside a torch for CPUs, PyPI's, which is for CUDA, breaks transformers.
    run("pip", "uninstall", "-q", "-y", "torchvision")
    return run
