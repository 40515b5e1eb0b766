"""Work ahead: order and errors as without, a bound on what waits, and no thread that stays."""

import threading
import time
from contextlib import closing

import pytest
import torch
from models import small_video, tiny_backbone

from x2l.ahead import ahead
from x2l.chunkers.fixed import Fixed
from x2l.compressors.vst import VST
from x2l.oracles.annotated import Annotated
from x2l.pipeline import Pipeline
from x2l.selectors.top_k import TopK
from x2l.types import X2LError


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("x2l-ahead")]


def until(condition) -> bool:
    """Whether a condition comes true within five seconds."""
    deadline_s = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("num", [1, 3])
def test_items_come_in_order_and_no_more_than_so_many_wait(num):
    made, makers = [], set()

    def items():
        for number in range(20):
            made.append(number)
            makers.add(threading.current_thread().name)
            yield number

    for count, number in enumerate(ahead(items(), num), 1):
        assert number == count - 1
        assert until(lambda count=count: len(made) == min(count + num, 20))  # they are made unasked ...
        time.sleep(0.01)
        assert len(made) <= count + num  # ... and then no more
    assert count == 20 and len(makers) == 1 and threading.current_thread().name not in makers
    assert not threads()


def test_an_error_is_raised_in_its_place():
    def items():
        yield 1
        yield 2
        raise X2LError("the third")

    seen = []
    with pytest.raises(X2LError, match="the third"):
        for item in ahead(items(), 2):
            seen.append(item)
    assert seen == [1, 2] and not threads()


@pytest.mark.parametrize("ending", [None, ValueError, KeyboardInterrupt])
def test_whoever_stops_early_stops_the_thread(ending):
    try:
        with closing(ahead(iter(range(100)))) as items:
            assert next(items) == 0 and threads()
            if ending:
                raise ending
    except (ValueError, KeyboardInterrupt):
        pass
    assert not threads()


class Fails(VST):
    def encode(self, backbone, prefix, chunks, ratios):
        next(iter(chunks))
        raise KeyboardInterrupt


def test_an_interrupted_index_leaves_no_thread(tmp_path):
    pipeline = Pipeline(tiny_backbone(), Fails(), Annotated(), TopK(1), (2, 8), chunker=Fixed(2))
    with torch.no_grad(), pytest.raises(KeyboardInterrupt):
        pipeline.index(small_video(tmp_path))
    assert not threads()
