"""A dictionary that keeps what was used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """At most `limit` values by their keys; the one that was not used for longest goes first.

    on_gone: is given each value that goes.
    """

    def __init__(self, limit: int, on_gone: Callable[[Value], None] = lambda value: None):
        self.limit, self._on_gone = limit, on_gone
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = RLock()  # visitors come in threads of their own

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key; made if there is none."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
            self._values.move_to_end(key)
            while len(self._values) > self.limit:
                self._on_gone(self._values.popitem(last=False)[1])
            return self._values[key]

    def drop(self, key: Hashable) -> None:
        """Let the value of a key go, if there is one."""
        with self._lock:
            if key in self._values:
                self._on_gone(self._values.pop(key))

    def clear(self) -> None:
        with self._lock:
            for key in list(self._values):
                self.drop(key)
