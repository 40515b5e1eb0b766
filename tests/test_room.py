"""Room behind keys and values: what is read is what copies would hold, and nothing is copied."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import DynamicLayer

from x2l.room import Room, RoomyLayer

STEPS = st.lists(st.one_of(st.integers(1, 90), st.integers(-40, -1)), max_size=12)
"""Tokens that are appended, and (below 0) taken away."""


def random_tokens(count: int) -> torch.Tensor:
    return torch.randn(2, 3, count, 4)


@settings(deadline=None, max_examples=60)
@given(first=st.integers(0, 5), steps=STEPS, has_gradients=st.booleans())
def test_a_layer_with_room_is_one_that_copies(first, steps, has_gradients):
    keys, values = random_tokens(first), random_tokens(first)
    roomy, plain = RoomyLayer(keys, values), DynamicLayer()
    plain.update(keys, values)
    with torch.set_grad_enabled(has_gradients):
        for step in steps:
            if step > 0:
                new = random_tokens(step), random_tokens(step)
                read, expected = roomy.update(*new), plain.update(*new)
                assert all(map(torch.equal, read, expected))
            elif -step < plain.get_seq_length():
                roomy.crop(step), plain.crop(step)
            assert roomy.get_seq_length() == plain.get_seq_length()
            assert torch.equal(roomy.keys, plain.keys) and torch.equal(roomy.values, plain.values)


@torch.no_grad()
def test_tokens_are_written_where_there_is_room_for_them():
    whole = random_tokens(20)
    layer = RoomyLayer(whole[:, :, :5], whole[:, :, :5], whole, whole.clone())
    keys, values = layer.update(random_tokens(10), random_tokens(10))
    assert keys.data_ptr() == whole.data_ptr() and torch.equal(whole[:, :, :15], keys)
    assert values.data_ptr() != whole.data_ptr()  # the start of nothing that there is room behind
    held = values.data_ptr()
    for _ in range(60):
        _, values = layer.update(random_tokens(1), random_tokens(1))
    assert values.data_ptr() == held and torch.equal(values[:, :, :5], whole[:, :, :5])


def test_gradients_flow_to_everything_that_was_read():
    given = [random_tokens(n).requires_grad_() for n in (3, 2, 4)]
    layer = RoomyLayer(given[0], given[0])
    read = [layer.update(new, new)[0].square().sum() for new in given[1:]]
    sum(read).backward()
    for states, times in zip(given, (2, 2, 1), strict=True):
        torch.testing.assert_close(states.grad, 2 * times * states)


@pytest.mark.parametrize(("size", "most"), [(1, 2), (700, 40)])
def test_a_long_row_is_seldom_copied(size, most):
    room, tokens, places = Room(), torch.empty(1, 0, 4), set()
    for _ in range(100):
        tokens = room.append(tokens, torch.zeros(1, size, 4))
        places.add(tokens.data_ptr())
    assert tokens.shape[-2] == 100 * size
    assert len(places) <= most
