"""The processes of a run: which this one is, and where it waits for the others.

torchrun or srun start them, end all if one fails, and tell each in its environment who it is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from x2l.errors import X2LError
from x2l.storage.hub import one_line

Each = TypeVar("Each")

_LONGEST = timedelta(days=365)
"""That one waits for another; of one that has ended, its connection tells at once."""
_LOOK_S = 0.2
_BAD_END = 2


class Processes:
    """A process of its own; `rank`: its number, of `num`."""

    rank, num = 0, 1

    def __init__(self):
        self._counted = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[Each]) -> Sequence[Each]:
        """Those of `items`, which are the same in all processes, that this one works on."""
        return items[self.rank :: self.num]

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        """The first process goes through these lines before the others; then all go on together."""
        yield

    def count(self, more: int = 0) -> int:
        """Count `more`; returns what all processes have counted."""
        self._counted += more
        return self._counted

    def gathered(self, own: Mapping[str, str], meanwhile: Callable[[], None]) -> dict[str, str]:
        """What all processes have to tell, to the first; the others are given back their own.

        Waits until all are here, and calls `meanwhile` again and again.
        """
        return dict(own)


class Group(Processes):
    """One of several processes. Where another one fails, this one ends too.

    It says nothing then: the other one has said why, or what started them tells. Raises X2LError if they
    cannot meet.
    """

    def __init__(self):
        try:
            store, self.rank, self.num = next(dist.rendezvous("env://"))
            # torchrun's own store remembers what processes said that it has started anew.
            self._store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
            facts = {"store": self._store, "rank": self.rank, "world_size": self.num}
            dist.init_process_group("gloo", timeout=_LONGEST, **facts)
        except (RuntimeError, ValueError) as error:
            raise X2LError(f"processes: cannot meet, {one_line(error)}") from error

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        if not self.is_first:
            self._wait()
        yield
        if self.is_first:
            self._wait()
        self._wait()

    def count(self, more: int = 0) -> int:
        with _ending_with_others():
            return self._store.add("count", more)

    def gathered(self, own: Mapping[str, str], meanwhile: Callable[[], None]) -> dict[str, str]:
        with _ending_with_others():
            self._store.set(f"own/{self.rank}", json.dumps(dict(own)))
        self._wait(meanwhile)
        if not self.is_first:
            return dict(own)
        meanwhile()
        every = (json.loads(self._store.get(f"own/{rank}")) for rank in range(self.num))
        return {name: text for of_one in every for name, text in of_one.items()}

    def fails_first(self) -> bool:
        """Whether no other process has failed before: without a store, the one that held it has."""
        with suppress(RuntimeError):
            return self._store.add("failed", 1) == 1
        return False

    def _wait(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        with _ending_with_others():
            arrival = dist.barrier(async_op=True)
            while not arrival.is_completed():
                meanwhile()
                time.sleep(_LOOK_S)
            arrival.wait()


@contextmanager
def _ending_with_others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise SystemExit(_BAD_END) from error


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that were started together, or this one alone.

    Of several, "cuda" is to each a device of its own. Raises X2LError if they cannot meet.
    """
    if "WORLD_SIZE" not in os.environ and "SLURM_STEP_NUM_TASKS" in os.environ:
        os.environ.update(_of_srun(os.environ))
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    group = Group()
    try:
        yield group
    except X2LError as error:
        if group.fails_first():
            raise
        raise SystemExit(_BAD_END) from error
    finally:
        dist.destroy_process_group()


def _of_srun(told: Mapping[str, str]) -> dict[str, str]:
    """What torchrun would tell, from what srun tells of one of its tasks."""
    from lightning.fabric.plugins.environments import SLURMEnvironment

    meeting = {
        "MASTER_ADDR": SLURMEnvironment.resolve_root_node_address(told["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": str(15000 + int(told["SLURM_JOB_ID"]) % 10000),
    }
    return {
        "RANK": told["SLURM_PROCID"],
        "WORLD_SIZE": told["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": told["SLURM_LOCALID"],
        **{name: told.get(name, default) for name, default in meeting.items()},
    }
