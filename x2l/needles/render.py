"""Draws a Script over footage: the same picture at any size, 256 for files and 96 for training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Protocol, SupportsFloat, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from x2l.needles.sprites import CARD, GRID, card_picture, frame_picture
from x2l.needles.world import Card, Scene, Script

# In units of the grid.
_BAND = 3
_CELL = 13


@runtime_checkable
class Background(Protocol):
    """Moving footage without end."""

    def frame(self, time_s: float, size: int) -> UInt8[np.ndarray, "size size 3"]:
        """The RGB picture at `time_s` >= 0, cut to a square; never written to."""
        ...


class Renderer:
    """Draws scripts at one size, over the footage that `Scene.background` numbers."""

    def __init__(self, size: int, backgrounds: Sequence[Background]):
        self.size = size
        self.backgrounds = backgrounds
        self._band = self._pixels(_BAND)

    def clip(
        self, script: Script, times_s: Iterable[SupportsFloat]
    ) -> UInt8[np.ndarray, "frames size size 3"]:
        """The pictures at the given times in seconds."""
        return np.stack([self.frame(script, float(time_s)) for time_s in times_s])

    def frame(self, script: Script, time_s: float) -> UInt8[np.ndarray, "size size 3"]:
        """The picture at `time_s`."""
        scene = script.scene(time_s)
        picture = self._backdrop(scene, time_s)
        for card in script.cards[script.second(time_s)]:
            self._paste(picture, card)
        return picture

    def _backdrop(self, scene: Scene, time_s: float) -> UInt8[np.ndarray, "size size 3"]:
        """The frame, with footage by day or by night inside."""
        footage = self.backgrounds[scene.background % len(self.backgrounds)]
        elapsed_s = max(time_s - scene.start_s, 0.0)
        inside = slice(self._band, self.size - self._band)
        picture = frame_picture(scene.frame_colour, scene.pattern, self.size).copy()
        shown = footage.frame(scene.background_start_s + elapsed_s, self.size)[inside, inside]
        for channel, table in enumerate(_light(scene.night)):
            picture[inside, inside, channel] = table[shown[..., channel]]
        return picture

    def _paste(self, picture: UInt8[np.ndarray, "size size 3"], card: Card) -> None:
        colour, clear = card_picture(card.colour, card.shape, card.digit, self.size)
        top, left = self.card_corner(card)
        region = picture[top : top + len(colour), left : left + len(colour)]
        region[...] = (region * clear >> 8) + colour

    def card_corner(self, card: Card) -> tuple[int, int]:
        """(top, left) pixel of the card's square picture, which stays inside its cell."""
        row, column = divmod(card.cell, 2)
        right, down = card.jitter
        return self._edge(row, down), self._edge(column, right)

    def _edge(self, row: int, jitter: int) -> int:
        room = (_CELL - CARD) // 2
        return self._pixels(_BAND + row * _CELL + room + jitter)

    def _pixels(self, length: int) -> int:
        return length * self.size // GRID


@cache
def _light(night: bool) -> list[UInt8[np.ndarray, " 256"]]:
    """Tone tables of red, green and blue: day is never dark, night never bright."""
    level = np.arange(256)
    tones = [(0.24, 0), (0.26, 4), (0.34, 34)] if night else [(0.75, 60)] * 3
    return [(gain * level + lift).astype(np.uint8) for gain, lift in tones]
