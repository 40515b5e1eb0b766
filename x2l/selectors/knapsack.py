"""The best plan that fits a budget, over all levels of the index."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from x2l.interfaces import Selector
from x2l.selectors._plan import in_index
from x2l.standard_scores import standard_scores
from x2l.types import DROPPED, Plan, VideoIndex, X2LError


@dataclass
class Knapsack(Selector):
    """The plan of the highest total worth whose cached tokens of the video fit into a budget.

    budget: of tokens. None: `share` of those before compression, but room for `fewest` chunks at the finest
        level and all others at the coarsest (room: the plan may use it otherwise).
    ratios: the levels to choose from; None = all of the index.
    temperature: of the softmax over standard scores that gives each chunk's weight; the lower, the more the
        best chunks get.

    A chunk's worth is its weight times the detail of its level: 1 for the finest, falling with the logarithm
    of the ratio to a share above 0 for the coarsest. Chunks are left out only where all of them at the
    coarsest level are more than `budget`. Without scores all weigh the same. A budget of bytes is one
    of tokens: divide by `index.spec.geometry.bytes_per_token`.

    Raises X2LError (in `choose`) if not one chunk fits, or for a ratio that the index does not hold.

    Source: the multiple-choice knapsack problem, solved exactly.
    Differs: the paper (Video-X^2L, section 3.4) has two levels and a number of chunks.
    """

    budget: int | None = None
    share: float = 0.15
    fewest: int = 3
    ratios: tuple[int, ...] | None = None
    temperature: float = 1.0

    def __post_init__(self):
        if self.budget is not None and self.budget < 1:
            raise X2LError(f"selector.budget: {self.budget}, expected 1 or more tokens")
        if not 0 < self.share <= 1:
            raise X2LError(f"selector.share: {self.share}, expected a share above 0 and at most 1")
        if self.fewest < 0:
            raise X2LError(f"selector.fewest: {self.fewest}, expected 0 or more chunks")
        if self.temperature <= 0:
            raise X2LError(f"selector.temperature: {self.temperature}, expected above 0")

    def choose(self, scores: Float[Tensor, " chunks"] | None, index: VideoIndex) -> Plan:
        ratios = [in_index("ratios", ratio, ratio, index) for ratio in self.ratios or index.ratios]
        costs = np.array([index.planned_tokens(Plan((r,) * len(index.chunks))) for r in ratios]).T
        coarsest = int(costs.min(axis=1).sum())
        more = np.sort(np.ptp(costs, axis=1))[::-1][: self.fewest].sum()
        budget = self.budget or max(coarsest + int(more), int(self.share * index.num_visual_tokens))
        if coarsest > budget:
            ratios, costs = [*ratios, DROPPED], np.pad(costs, ((0, 0), (0, 1)))
        if costs[costs > 0].min() > budget:
            raise X2LError(f"selector.budget: {budget} tokens, expected room for one of the chunks")
        chosen = best_choices(self._worth(scores, ratios, len(index.chunks)), costs, budget)
        return Plan(tuple(ratios[i] for i in chosen)).with_scores(scores)

    def _worth(
        self, scores: Float[Tensor, " chunks"] | None, ratios: list[int], num_chunks: int
    ) -> Float[np.ndarray, "chunks levels"]:
        scores = torch.zeros(num_chunks) if scores is None else standard_scores(scores)
        weights = (scores.double() / self.temperature).softmax(dim=0).numpy()
        return weights[:, None] * details(ratios)


def details(ratios: list[int]) -> Float[np.ndarray, " levels"]:
    """How much of a chunk each level tells: 1 for the finest, 0 for none."""
    kept = [ratio for ratio in ratios if ratio != DROPPED]
    nothing = 2 * max(kept)  # one octave beyond the coarsest
    finest = math.log(nothing / min(kept))
    return np.array([math.log(nothing / r) / finest if r != DROPPED else 0.0 for r in ratios])


def best_choices(
    worth: Float[np.ndarray, "items choices"], costs: Int[np.ndarray, "items choices"], budget: int
) -> list[int]:
    """One choice for each item: the highest total worth whose total cost is within the budget.

    Equal totals go to the cheaper choice. Something has to fit.
    """
    unit = math.gcd(*costs.ravel().tolist()) or 1
    costs, room = costs // unit, budget // unit
    best = np.zeros(room + 1)  # of the items so far, for every budget up to this one
    taken = []
    for item_worth, item_costs in zip(worth, costs, strict=True):
        totals = np.full((len(item_costs), room + 1), -np.inf)
        for total, gain, cost in zip(totals, item_worth, item_costs, strict=True):
            if cost <= room:
                total[cost:] = best[: room + 1 - cost] + gain
        order = np.argsort(item_costs, kind="stable")
        choice = order[totals[order].argmax(axis=0)]
        taken.append(choice.astype(np.int16))
        best = totals.max(axis=0)
    chosen = []
    for choice, item_costs in zip(reversed(taken), reversed(costs), strict=True):
        chosen.append(int(choice[room]))
        room -= item_costs[chosen[-1]]
    return chosen[::-1]
