"""Levels that stay on the device between questions."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import torch

from x2l.types import KV, Level, Writable, writable


class OnDevice:
    """Keys and values of the levels that were asked for last, of so many bytes together; levels stay alive.

    limit_bytes: 0 keeps none, and none is moved then.
    """

    def __init__(self, device: torch.device, limit_bytes: int):
        self.device, self.limit_bytes = device, limit_bytes
        self._kept: OrderedDict[int, tuple[Level, KV]] = OrderedDict()

    @property
    def num_bytes(self) -> int:
        return sum(kv.num_bytes for _, kv in self._kept.values())

    def ready(self, level: Level) -> Writable:
        """A level as it is put into a cache, unpacked and on the device if there is room to keep it so."""
        if not self.limit_bytes:
            return writable(level, self.device)
        _, kv = self._kept.get(id(level), (level, None))
        kv = writable(level, self.device).materialise() if kv is None else kv
        if kv.num_bytes > self.limit_bytes:
            return kv
        there = {name: getattr(kv, name).to(self.device, non_blocking=True) for name in ("keys", "values")}
        self._kept[id(level)] = level, replace(kv, **there)
        self._kept.move_to_end(id(level))
        while self.num_bytes > self.limit_bytes:
            self._kept.popitem(last=False)
        return self._kept[id(level)][1]
