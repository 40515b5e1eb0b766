"""Work that is done before its result is asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item], num: int = 1) -> Iterator[Item]:
    """The items in their order, up to `num` of them made in a thread while those before are worked on.

    An error is raised where its item would have come. The thread ends with the generator, however that ends:
    close it.
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, "x2l-ahead") as thread:
        coming = deque(thread.submit(next, source, end) for _ in range(num))
        while (item := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, source, end))
            yield item
