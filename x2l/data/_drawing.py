"""Drawing records in proportion to where they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np


def stratified(strata: Sequence[str], num: int, seed: int) -> list[int]:
    """Numbers of `num` items, ascending; each stratum gives its share, rounded by largest remainders.

    strata: the stratum of each item, `num` of them or more.
    """
    rng = np.random.default_rng(seed)
    places: dict[str, list[int]] = {}
    for place, stratum in enumerate(strata):
        places.setdefault(stratum, []).append(place)
    shares = proportional(Counter(strata), num)
    drawn = [rng.choice(places[name], shares[name], replace=False) for name in sorted(places)]
    return sorted(np.concatenate(drawn).tolist())


def proportional(sizes: Mapping[str, int], num: int) -> dict[str, int]:
    """`num` divided in proportion to sizes, none above its size if `num` is at most their sum.

    What rounding down leaves goes to the largest remainders, of equal ones to the first by name.
    """
    total = sum(sizes.values())
    shares = {name: size * num // total for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(sizes[name] * num % total), name))
    for name in by_remainder[: num - sum(shares.values())]:
        shares[name] += 1
    return shares
