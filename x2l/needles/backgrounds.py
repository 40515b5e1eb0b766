"""Real photographs and footage as moving backgrounds of needle videos.

The material and its licences are listed in assets/LICENSES.md. A source belongs to one split only, so nothing
that a model has seen behind the needles in training appears in evaluation. One picture gives many scenes: the
seed of a background draws its camera path, its starting point, a flip and a gentle change of colour.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from x2l.types import X2LError

ASSETS = Path(__file__).parent / "assets"
SPLITS = ("train", "eval")
CLIP_FPS = 4.0
"""Frames per second of the clips in a folder of assets."""


@dataclass(frozen=True)
class Wave:
    """A sine between 0 and 1."""

    period_s: float
    phase: float

    def at(self, time_s: float) -> float:
        return 0.5 + 0.5 * math.sin(2 * math.pi * time_s / self.period_s + self.phase)


@dataclass(frozen=True)
class Scene:
    """A seed's decisions: the camera's three slow swings, where time starts, the flip and the colours."""

    across: Wave
    down: Wave
    zoom: Wave
    start_s: float
    flipped: bool
    colours: list[int]

    @classmethod
    def draw(cls, seed: int) -> Scene:
        rng = np.random.default_rng(seed)
        across, down, zoom = (Wave(rng.uniform(30, 80), rng.uniform(0, 2 * math.pi)) for _ in range(3))
        return cls(across, down, zoom, rng.uniform(0, 60), bool(rng.integers(2)), _colour_table(rng))

    def window(
        self, time_s: float, width: int, height: int, sides: tuple[float, float]
    ) -> tuple[float, float, float, float]:
        """The square seen at a time, as left, top, right, bottom in pixels of a width x height picture.

        `sides` is the range of the square's side, in shares of the picture's short side.
        """
        smallest, largest = sides
        side = (smallest + self.zoom.at(time_s) * (largest - smallest)) * min(width, height)
        left, top = self.across.at(time_s) * (width - side), self.down.at(time_s) * (height - side)
        return left, top, min(left + side, width), min(top + side, height)


def _colour_table(rng: np.random.Generator) -> list[int]:
    """Lookup table for red, green and blue, one after another: a gamma, and a gain per channel."""
    gamma, gains = rng.uniform(0.8, 1.25), rng.uniform(0.85, 1.1, (3, 1))
    table = 255 * gains * np.linspace(0, 1, 256) ** gamma
    return table.clip(0, 255).round().astype(int).ravel().tolist()


@dataclass(frozen=True)
class Background(ABC):
    """A moving background; a frame depends only on the file, the seed and the arguments of `frame`.

    `group` names the source (photographer or footage) that belongs to one split.
    """

    path: Path
    group: str
    seed: int

    sides: ClassVar[tuple[float, float]]
    """Smallest and largest window, in shares of the picture's short side."""

    def frame(self, time_s: float, size: int) -> UInt8[np.ndarray, "size size 3"]:
        """The square RGB frame at a time. Raises X2LError where size is not positive."""
        if size < 1:
            raise X2LError(f"size: expected a positive number of pixels, got {size}")
        pictures = _pictures(self.path, math.ceil(2 * size / sum(self.sides)))
        picture = pictures[self._number(len(pictures), time_s + self.scene.start_s)]
        window = self.scene.window(time_s, *picture.size, self.sides)
        square = picture.resize((size, size), Image.Resampling.BILINEAR, box=window)
        if self.scene.flipped:
            square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.array(square.point(self.scene.colours))

    def variant(self, rng: np.random.Generator) -> Background:
        """The same picture or clip as another scene."""
        return type(self)(self.path, self.group, int(rng.integers(2**63)))

    @cached_property
    def scene(self) -> Scene:
        return Scene.draw(self.seed)

    @abstractmethod
    def _number(self, num_pictures: int, time_s: float) -> int:
        """Which of the pictures is seen at a time."""


class Photo(Background):
    """A photograph under a camera that pans and zooms."""

    sides = (0.6, 0.95)

    def _number(self, num_pictures: int, time_s: float) -> int:
        return 0


class Footage(Background):
    """A clip played forth and back without end, under a camera that moves a little."""

    sides = (0.75, 1.0)

    def _number(self, num_pictures: int, time_s: float) -> int:
        last = num_pictures - 1
        position = math.floor(time_s * CLIP_FPS) % max(1, 2 * last)
        return min(position, 2 * last - position)


KINDS = {"photo": Photo, "clip": Footage}


def load(split: str, seed: int, folder: str | Path = ASSETS) -> list[Background]:
    """Every background of a split ("train" or "eval"), in the order of the manifest.

    Raises X2LError for another split and for a folder without a manifest.
    """
    if split not in SPLITS:
        raise X2LError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    rng = np.random.default_rng(seed)
    items = [item for item in manifest(folder) if item["split"] == split]
    return [
        KINDS[item["kind"]](Path(folder) / item["file"], item["group"], int(rng.integers(2**63)))
        for item in items
    ]


def manifest(folder: str | Path = ASSETS) -> list[dict]:
    """The items of a folder of assets, as its manifest.json lists them."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise X2LError(f"{path}: expected the manifest of a folder of backgrounds, found no such file")
    return json.loads(path.read_text(encoding="utf-8"))["items"]


@lru_cache(maxsize=512)
def _pictures(path: Path, short_side: int) -> tuple[Image.Image, ...]:
    """The frames of a clip, or the one picture of a photograph, no larger than is needed."""
    if not path.is_file():
        raise X2LError(f"{path}: expected a background that the manifest lists, found no such file")
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            return tuple(shrink(frame.to_image(), short_side) for frame in container.decode(video=0))
    with Image.open(path) as image:
        return (shrink(image.convert("RGB"), short_side),)


def shrink(image: Image.Image, short_side: int) -> Image.Image:
    """Scale a picture down until its short side has this many pixels; a smaller picture stays as it is."""
    scale = min(1.0, short_side / min(image.size))
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
