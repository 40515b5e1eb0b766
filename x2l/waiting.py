"""What a source that does not wait hands on, until it is taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from threading import Condition, Thread
from typing import TypeVar

Item = TypeVar("Item")


class Waiting:
    """Room for so many items of a live source; of more, the one that has waited longest is dropped.

    len() is how many wait, and num_dropped how many were dropped so far.
    """

    def __init__(self, most: int):
        self.most, self.num_dropped = most, 0
        self._items: deque = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._changed = Condition()

    def __len__(self) -> int:
        return len(self._items)

    def taken(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in their order, taken from their source in a thread as they come.

        An error of the source is raised behind the items before it. Closed, it lets go of the source at its
        next item.
        """
        Thread(target=self._fill, args=(items,), daemon=True, name="x2l-live").start()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._items or self._ended)
                    if not self._items:
                        break
                    item = self._items.popleft()
                yield item
            if self._error:
                raise self._error
        finally:
            self._ended = True

    def _fill(self, items: Iterable) -> None:
        try:
            for item in items:
                with self._changed:
                    if self._ended:
                        return
                    self._items.append(item)
                    if len(self._items) > self.most:
                        self._items.popleft()
                        self.num_dropped += 1
                    self._changed.notify()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()
