"""Picture files, read by Pillow as frames of one size."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps

from x2l.errors import X2LError
from x2l.storage.fingerprint import file_fingerprint

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
NAMES = ", ".join(suffix[1:] for suffix in SUFFIXES)

_16_BIT_FORMATS = ("PNG", "PPM")
"""Those of which older versions of Pillow give 16 bits as 32."""


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
        self._size = only_picture(self.paths[0]).size

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def num_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    def bounds_s(self, fps: float) -> Float[np.ndarray, " bounds"]:
        """When each picture is shown, `fps` a second, and the end."""
        return np.arange(len(self) + 1) / fps

    def read(self, indices: Int[np.ndarray, " frames"]) -> UInt8[np.ndarray, "frames height width 3"]:
        return np.stack([pixels(only_picture(self.paths[i]), self._size) for i in indices])

    def digest(self) -> bytes:
        """sha256 of the names and contents, in order."""
        content = [f"{path.name}\0{file_fingerprint(path)}\0" for path in self.paths]
        return hashlib.sha256("".join(content).encode()).digest()


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name


@contextmanager
def picture_errors(path: Path) -> Iterator[None]:
    """Whatever Pillow raises becomes an X2LError that names the file."""
    try:
        yield
    except X2LError:
        raise
    except FileNotFoundError as error:
        raise X2LError(f"{path}: no such file") from error
    except Exception as error:  # by format, a damaged file is an OSError, SyntaxError, struct.error, ...
        raise X2LError(f"{path}: not a picture, or a damaged one") from error


def is_animated(path: Path) -> bool:
    """Whether a file holds several pictures to be shown in turn. Raises X2LError if it is no picture."""
    with picture_errors(path), Image.open(path) as picture:
        return _num_shown(picture) > 1


def rgb(picture: Image.Image, path: Path) -> Image.Image:
    """A picture upright, 8 bits a colour. Raises X2LError for one whose white level is not known."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in ("I", "F") and picture.format not in _16_BIT_FORMATS:
        raise X2LError(f"{path}: has 32 bits a pixel of one colour, expected 8 or 16")
    if upright.mode.startswith("I"):
        levels = np.asarray(upright).astype(np.int64)  # Pillow clips what is above 255
        upright = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    return upright.convert("RGB")


def pixels(picture: Image.Image, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of an RGB picture, resized if it is of another size (width, height)."""
    is_fitting = picture.size == size
    return np.asarray(picture if is_fitting else picture.resize(size, Image.Resampling.BICUBIC))


def only_picture(path: Path) -> Image.Image:
    """A picture upright, 8 bits a colour. Raises X2LError if a file is none, or holds several."""
    with picture_errors(path), Image.open(path) as picture:
        if _num_shown(picture) > 1:
            raise X2LError(f"{path}: holds {picture.n_frames} pictures, expected one; alone it is a video")
        return rgb(picture, path)


def _num_shown(picture: Image.Image) -> int:
    """Phones store a preview or the other eye's picture behind the first one (mpo): these are not shown."""
    return 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
