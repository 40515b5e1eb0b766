"""Paths on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from x2l.errors import X2LError


def local_path(path: str | Path) -> Path:
    """The path as such. Raises X2LError for a URL, of which Path would make a folder "https:"."""
    if re.match(r"[a-z][a-z0-9+.-]*://", str(path), re.IGNORECASE):
        raise X2LError(f"{path}: is a URL, expected a path on this machine (download it first)")
    return Path(path)
