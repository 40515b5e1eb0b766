"""Clocks for the stages of a question."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from transformers.generation.streamers import BaseStreamer

Item = TypeVar("Item")


class Clock:
    """Adds up wall-clock seconds by name; a span inside another counts for the inner name only."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = self._now()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        self._book()
        self._running.append(name)
        try:
            yield
        finally:
            self._book()
            self._running.pop()

    def switch(self, name: str) -> None:
        """Book what follows in the innermost span under another name."""
        self._book()
        self._running[-1] = name

    def spans(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items, with the time that each takes to arrive booked under `name`."""
        items = iter(items)
        while True:
            with self.span(name):
                item = next(items, items)
            if item is items:
                return
            yield item

    def _book(self) -> None:
        now = self._now()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def _now(self) -> float:
        # Work on a GPU runs on after its call returns.
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class AtFirstToken(BaseStreamer):
    """Ends the clock's "first_token" when that arrives, and passes every token on to another streamer."""

    def __init__(self, clock: Clock, inner: BaseStreamer | None):
        self.clock, self.inner = clock, inner
        self.num_puts = 0

    def put(self, value) -> None:
        self.num_puts += 1
        if self.num_puts == 2:  # the first call brings the prompt
            self.clock.switch("later_tokens")
        if self.inner is not None:
            self.inner.put(value)

    def end(self) -> None:
        if self.inner is not None:
            self.inner.end()
