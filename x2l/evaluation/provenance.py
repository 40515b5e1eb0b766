"""Provenance of numbers: versions, commit, device, date."""

from __future__ import annotations

import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import x2l

_PACKAGES = ("torch", "transformers", "numpy", "av")


def session(devices: list[torch.device]) -> dict[str, Any]:
    """Facts of one session of a run."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "devices": sorted({_device_name(device) for device in devices}),
        "num_threads": torch.get_num_threads(),
        "versions": versions(),
        "git": commit(Path(x2l.__file__).parent),
    }


def versions() -> dict[str, str]:
    packages = {name: version(name) for name in _PACKAGES}
    return {"x2l": x2l.__version__, "python": platform.python_version(), **packages}


def commit(folder: Path) -> dict[str, Any] | None:
    """The commit that `folder` is tracked in and whether files differ from it; None outside a repository.

    A package installed somewhere inside another repository is not tracked there.
    """
    if not _git(folder, "ls-files", "__init__.py"):
        return None
    return {"commit": _git(folder, "rev-parse", "HEAD"), "dirty": bool(_git(folder, "status", "--porcelain"))}


def _git(folder: Path, *command: str) -> str:
    try:
        result = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True)
    except FileNotFoundError:  # git is not installed
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " cpu"
