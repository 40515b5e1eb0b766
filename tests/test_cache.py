"""From pieces to one cache: the same numbers, whichever way they are joined and rotated."""

import pytest
import torch
from models import tiny_backbone

from x2l.cache import concatenate
from x2l.types import KV

LAYERS, HEADS, DIM = 3, 2, 16


@pytest.mark.parametrize("own", [(1, 1), (LAYERS, HEADS)], ids=["shared", "of each head"])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["one", "batch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_keys_are_rotated_in_place_to_the_bit(dtype, batch, own):
    backbone = tiny_backbone()
    keys = torch.randn(*batch, LAYERS, HEADS, 7, DIM, dtype=dtype)
    positions = torch.randint(9000, (1, *[1] * len(batch), *own, 7))
    expected = backbone.rotate(keys, positions)
    rotated = backbone.rotate_(keys, positions)
    assert rotated.data_ptr() == keys.data_ptr() and torch.equal(keys, expected)
    assert keys.dtype == dtype


def test_pieces_are_joined_alike_with_and_without_gradients():
    pieces = [
        KV(*torch.randn(2, LAYERS, HEADS, n, DIM, dtype=dtype), torch.arange(n).expand(1, 1, 1, n))
        for n, dtype in ((3, torch.float32), (1, torch.bfloat16), (0, torch.float32), (4, torch.float64))
    ]
    with_gradients = concatenate(pieces)
    with torch.no_grad():
        without = concatenate(pieces)
    for kv in (with_gradients, without):
        assert torch.equal(kv.keys, torch.cat([piece.keys.float() for piece in pieces], dim=-2))
        assert torch.equal(kv.values, torch.cat([piece.values.float() for piece in pieces], dim=-2))
        assert kv.positions.flatten().tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
