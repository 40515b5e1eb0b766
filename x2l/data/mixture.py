"""Data "mixture": several sources as one."""

from __future__ import annotations

from dataclasses import dataclass

from x2l.errors import X2LError, require
from x2l.interfaces import Data
from x2l.items import Item


@dataclass
class Mixture(Data):
    """The samples of all parts, one part behind the other; training shuffles them together.

    Source: post-training on several sets at once (Video-XL, arXiv 2409.14485).
    """

    parts: list[Data]
    """Each {name, ...}."""

    def __post_init__(self):
        require(bool(self.parts), "parts", "at least one source", self.parts)

    def check_training(self) -> None:
        for number, part in enumerate(self.parts):
            try:
                part.check_training()
            except X2LError as error:
                raise X2LError(f"parts.{number}.{error}") from error

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def sample(self, number: int) -> Item:
        for part in self.parts:
            if number < len(part):
                return part.sample(number)
            number -= len(part)
        raise IndexError(f"sample {number} behind the last of {len(self)}")
