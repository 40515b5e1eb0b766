"""Source "mixture": several sources as one."""

from __future__ import annotations

from dataclasses import dataclass

from x2l.errors import require
from x2l.training.qa_sources.sample import QASample, QASource


@dataclass(frozen=True)
class Mixture(QASource):
    """The samples of all parts, one part behind the other; training shuffles them together."""

    parts: list[QASource]
    """Each {name, ...}."""

    def __post_init__(self):
        require(bool(self.parts), "parts", "at least one source", self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def sample(self, number: int) -> QASample:
        for part in self.parts:
            if number < len(part):
                return part.sample(number)
            number -= len(part)
        raise IndexError(f"sample {number} behind the last of {len(self)}")
