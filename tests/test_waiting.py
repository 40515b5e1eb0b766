"""What a live source hands on is taken in its order, and the oldest is dropped where there is no room."""

import threading

import pytest

from x2l.waiting import Waiting


def test_the_oldest_is_dropped_and_counted():
    all_there, waiting = threading.Event(), Waiting(3)

    def source():
        yield 0
        assert taken_first.wait(10)
        yield from range(1, 8)
        all_there.set()

    taken_first = threading.Event()
    items = waiting.taken(source())
    assert next(items) == 0
    taken_first.set()
    assert all_there.wait(10)
    assert len(waiting) == 3 and waiting.num_dropped == 4
    assert list(items) == [5, 6, 7] and len(waiting) == 0


def test_an_error_comes_behind_what_was_before_it():
    def source():
        yield from range(3)
        raise KeyError("lost")

    items = Waiting(5).taken(source())
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="lost"):
        next(items)


def test_a_source_that_is_no_longer_wanted_is_let_go():
    let_go, more = threading.Event(), threading.Event()

    def source():
        try:
            yield 0
            more.wait(10)
            yield 1
        finally:
            let_go.set()

    items = Waiting(5).taken(source())
    assert next(items) == 0
    items.close()
    more.set()
    assert let_go.wait(10)
