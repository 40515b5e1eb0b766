"""One thread for the model: what is asked at a time waits in line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")
Tell = Callable[[Any], None]


class Worker:
    """Runs one job at a time, in the order in which they came."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def run(self, job: Callable[[Tell], Result]) -> Generator[Any, None, tuple[Result, list[str]]]:
        """Yields what a job tells while it runs; returns its result and the warnings of x2l.

        Raises what the job raises. A job that nobody waits for any more does not begin.
        """
        told: SimpleQueue = SimpleQueue()
        end = object()
        running = self._thread.submit(_noting, job, told.put)
        running.add_done_callback(lambda _: told.put(end))
        try:
            yield from iter(told.get, end)
            return running.result()
        finally:
            running.cancel()

    def close(self) -> None:
        """Let the job in hand end, and no other begin."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _noting(job: Callable[[Tell], Result], tell: Tell) -> tuple[Result, list[str]]:
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module=r"x2l\b")
        result = job(tell)
    return result, list(dict.fromkeys(str(each.message) for each in raised))


def mapped(run: Generator[Any, None, Result], change: Callable[[Any], Any]) -> Generator[Any, None, Result]:
    """A generator of what `change` makes of each that is yielded; it returns what `run` returns."""
    while True:
        try:
            told = next(run)
        except StopIteration as end:
            return end.value
        yield change(told)
