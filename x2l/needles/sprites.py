"""The pictures a needle video is pasted together from: patterned frames, and cards with their digit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Bool, UInt8, UInt16
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FRAME_RGB = {
    "crimson": (190, 15, 50),
    "amber": (255, 185, 0),
    "lime": (130, 235, 25),
    "teal": (0, 130, 130),
    "navy": (15, 25, 125),
    "violet": (150, 60, 225),
    "ivory": (245, 240, 215),
    "black": (12, 12, 12),
}
CARD_RGB = {
    "red": (225, 25, 25),
    "orange": (255, 130, 0),
    "yellow": (255, 235, 30),
    "green": (20, 150, 45),
    "cyan": (0, 215, 230),
    "blue": (35, 70, 230),
    "purple": (130, 35, 170),
    "pink": (255, 145, 195),
    "brown": (120, 70, 25),
    "white": (245, 245, 245),
}

GRID = 32
"""Places are multiples of 1/32 of the side: sizes that are multiples of 32 all show the very same picture."""
CARD = 11
"""Side of a card's picture, in units of the grid."""

# Everything is drawn once for a picture of this side (8 x 96, 3 x 256) and averaged down.
_MASTER = 768
_CARD_SIDE = CARD * _MASTER // GRID
_DIGIT_HEIGHT = 0.19 * _MASTER
_DIGIT_STROKE = 5
_OUTLINE = 7


# Frames


@cache
def frame_picture(colour: str, pattern: str, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The whole square in the frame's colour and pattern; footage covers its inside."""
    rgb = np.array(FRAME_RGB[colour])
    picture = np.where(_pattern(pattern)[..., None], _contrast(rgb), rgb).astype(np.uint8)
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BOX))


@cache
def _pattern(pattern: str) -> Bool[np.ndarray, "side side"]:
    """The mask of a pattern's second colour. Lengths are shares of the side, coarse enough at 96."""
    y, x = (np.mgrid[:_MASTER, :_MASTER] + 0.5) / _MASTER
    if pattern == "striped":
        return (x + y) % 0.125 < 0.055
    if pattern == "checked":
        return (x * 64 // 3 + y * 64 // 3) % 2 == 1
    if pattern == "dotted":
        return (x % 0.1 - 0.05) ** 2 + (y % 0.1 - 0.05) ** 2 < 0.028**2
    return np.zeros((_MASTER, _MASTER), bool)


def _contrast(rgb: np.ndarray) -> np.ndarray:
    """A tint or shade of the same hue, so that no second colour makes two frames look alike."""
    return rgb * 0.4 if _is_light(rgb) else rgb * 0.3 + 255 * 0.7


def _is_light(rgb: Sequence[int] | np.ndarray) -> bool:
    return float(np.dot(rgb, (0.299, 0.587, 0.114))) > 140


# Cards


@cache
def card_picture(
    colour: str, shape: str, digit: int, size: int
) -> tuple[UInt16[np.ndarray, "side side 3"], UInt16[np.ndarray, "side side 3"]]:
    """Colour times opacity, and what shows through (0..256), of a card."""
    rgb = CARD_RGB[colour]
    fill, dark, light = _shape_masks(shape)
    card = Image.new("RGBA", fill.size)
    card.paste((255, 255, 255, 255), mask=light)
    card.paste((20, 20, 20, 255), mask=dark)
    card.paste((*rgb, 255), mask=fill)
    _draw_digit(card, shape, digit, (0, 0, 0, 255) if _is_light(rgb) else (255, 255, 255, 255))
    side = CARD * size // GRID
    pixels = np.asarray(card.resize((side, side), Image.Resampling.BOX), dtype=np.float64)
    opacity = np.repeat(pixels[..., 3:] / 255, 3, axis=-1)
    return (pixels[..., :3] * opacity).astype(np.uint16), (256 * (1 - opacity)).astype(np.uint16)


@cache
def _shape_masks(shape: str) -> tuple[Image.Image, Image.Image, Image.Image]:
    """The shape, and the shape grown by a dark line and by a light line around it."""
    fill = Image.new("L", (_CARD_SIDE, _CARD_SIDE))
    middle = _CARD_SIDE / 2
    radius = middle - 2 * _OUTLINE - 1
    points = [(middle + x * radius, middle + y * radius) for x, y in _SHAPE_POINTS[shape]]
    ImageDraw.Draw(fill).polygon(points, fill=255)
    dark = fill.filter(ImageFilter.MaxFilter(2 * _OUTLINE + 1))
    return fill, dark, dark.filter(ImageFilter.MaxFilter(2 * _OUTLINE + 1))


def _draw_digit(card: Image.Image, shape: str, digit: int, rgba: tuple[int, int, int, int]) -> None:
    """A bold digit in the widest part of the shape."""
    x, y = _DIGIT_PLACES.get(shape, (0.0, 0.0))
    centre = (_CARD_SIDE * (1 + x) / 2, _CARD_SIDE * (1 + y) / 2)
    font = ImageFont.load_default(size=(_DIGIT_HEIGHT - 2 * _DIGIT_STROKE) / _DIGIT_SHARE)
    draw = ImageDraw.Draw(card)
    left, top, right, bottom = draw.textbbox((0, 0), str(digit), font=font, stroke_width=_DIGIT_STROKE)
    corner = (centre[0] - (left + right) / 2, centre[1] - (top + bottom) / 2)
    draw.text(corner, str(digit), font=font, fill=rgba, stroke_width=_DIGIT_STROKE, stroke_fill=rgba)


_DIGIT_SHARE = 0.71
"""Height of a digit in Pillow's built-in font, as a share of the font size."""

# Outlines: x to the right and y down, in units of half the shape's side.


def _round(radius: float, centre: tuple[float, float] = (0.0, 0.0), start=0.0, end=360.0) -> list:
    """An arc, clockwise from `start` to `end` degrees."""
    angles = [math.radians(start + (end - start) * i / 48) for i in range(49)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def _star() -> list:
    radii_and_angles = [(1.0 if i % 2 == 0 else 0.6, math.radians(36 * i - 90)) for i in range(10)]
    return [(1.05 * r * math.cos(a), 1.05 * r * math.sin(a) + 0.06) for r, a in radii_and_angles]


def _heart() -> list:
    """A well-known curve of cosines, scaled to the square."""

    def up(t: float) -> float:
        return 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)

    return [(math.sin(t) ** 3, -up(t) / 15) for t in (math.radians(7.5 * i) for i in range(48))]


def _moon() -> list:
    """A disc without the part of a second disc to its right: room for the digit is left of it."""
    horn = 50
    reach = math.cos(math.radians(horn)), math.sin(math.radians(horn))
    bite_centre, bite = (0.86, 0.0), math.dist((0.86, 0.0), reach)
    bite_horn = math.degrees(math.atan2(reach[1], reach[0] - bite_centre[0]))
    outer = _round(1.0, start=horn, end=360 - horn)
    inner = _round(bite, bite_centre, start=360 - bite_horn, end=bite_horn)
    return [(x + 0.18, y) for x, y in outer + inner]


_SHAPE_POINTS: dict[str, list[tuple[float, float]]] = {
    "circle": _round(0.95),
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": [(0, -1), (1, 0.9), (-1, 0.9)],
    "star": _star(),
    "diamond": [(0, -1), (1, 0), (0, 1), (-1, 0)],
    "heart": _heart(),
    "cross": [
        *[(-0.45, -1), (0.45, -1), (0.45, -0.45), (1, -0.45), (1, 0.45), (0.45, 0.45)],
        *[(0.45, 1), (-0.45, 1), (-0.45, 0.45), (-1, 0.45), (-1, -0.45), (-0.45, -0.45)],
    ],
    "hexagon": [(-1, 0), (-0.55, -0.75), (0.55, -0.75), (1, 0), (0.55, 0.75), (-0.55, 0.75)],
    "moon": _moon(),
    "arrow": [(-1, -0.6), (0.1, -0.6), (0.1, -1), (1, 0), (0.1, 1), (0.1, 0.6), (-1, 0.6)],
    "bell": [
        *_round(0.6, (0.0, -0.35), start=180, end=360),
        *[(0.65, 0.25), (1, 0.7), (0.3, 0.7), (0.22, 1), (-0.22, 1), (-0.3, 0.7), (-1, 0.7), (-0.65, 0.25)],
    ],
}
_DIGIT_PLACES = {  # elsewhere than in the middle
    "triangle": (0, 0.27),
    "heart": (0, 0.04),
    "moon": (-0.2, 0),
    "arrow": (-0.12, 0),
    "star": (0, 0.03),
}
