"""Another selector's plan, with what happens just before and after in detail."""

from __future__ import annotations

from dataclasses import dataclass

from x2l.selectors._widened import Widened
from x2l.types import Plan, X2LError


@dataclass
class Neighbours(Widened):
    """The chunks up to `reach` before and after every chunk that another selector re-loads.

    For events that a cut divides, and questions about what comes next.

    Source: none.
    """

    reach: int = 1

    def __post_init__(self):
        if self.reach < 0:
            raise X2LError(f"selector.reach: {self.reach}, expected 0 or more chunks")

    def more(self, plan: Plan, detailed: set[int]) -> set[int]:
        return {i for i in range(len(plan.ratios)) if any(abs(i - j) <= self.reach for j in detailed)}
