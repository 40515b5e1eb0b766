"""Picture files, read by Pillow as frames of one size."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps

from x2l.errors import X2LError
from x2l.storage.fingerprint import file_fingerprint

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def is_picture(path: Path) -> bool:
    """By its name; the hidden files that file managers leave beside pictures are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def holds_pictures(folder: Path) -> bool:
    return os.path.isdir(folder) and any(map(is_picture, folder.iterdir()))


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder in natural order: frame_9 before frame_10."""
    return tuple(sorted(filter(is_picture, folder.iterdir()), key=_natural_order))


class PictureFiles:
    """Pictures as frames: RGB, upright, and of the first one's size.

    Raises X2LError if the first cannot be read; the others are read when they are asked for.
    """

    reader = "pillow"

    def __init__(self, paths: Sequence[Path]):
        self.paths = tuple(paths)
        self._size = _decoded(self.paths[0]).size

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def num_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    def read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        return np.stack([np.asarray(self._resized(self.paths[i])) for i in indices])

    def digest(self) -> bytes:
        """sha256 of the names and contents, in order."""
        content = [f"{path.name}\0{file_fingerprint(path)}\0" for path in self.paths]
        return hashlib.sha256("".join(content).encode()).digest()

    def _resized(self, path: Path) -> Image.Image:
        picture = _decoded(path)
        return picture if picture.size == self._size else picture.resize(self._size, Image.Resampling.BICUBIC)


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name


def _decoded(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError as error:
        raise X2LError(f"{path}: no such file") from error
    except Exception as error:  # by format, a damaged file is an OSError, SyntaxError, struct.error, ...
        raise X2LError(f"{path}: not a picture, or a damaged one") from error
