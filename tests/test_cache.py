"""From pieces to one cache: the same numbers, whichever way they are joined and rotated."""

import pytest
import torch
from models import index_of, tiny_backbone
from transformers import DynamicCache

from x2l.cache import SPARE_TOKENS, assemble, concatenate
from x2l.compressors.vst import VST
from x2l.types import KV, Plan

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
    with_gradients, none = concatenate(pieces)
    with torch.no_grad():
        without, rooms = concatenate(pieces)
    assert len(none) == 0 and [room.data_ptr() for room in rooms] == [
        part.data_ptr() for part in (without.keys, without.values)
    ]
    for kv in (with_gradients, without):
        assert torch.equal(kv.keys, torch.cat([piece.keys.float() for piece in pieces], dim=-2))
        assert torch.equal(kv.values, torch.cat([piece.values.float() for piece in pieces], dim=-2))
        assert kv.positions.flatten().tolist() == [0, 1, 2, 0, 0, 1, 2, 3]


@torch.no_grad()
def test_questions_are_read_in_turn_behind_a_cache_that_is_never_copied(backbone):
    cache = assemble(index_of(backbone, VST(), ratios=(2, 8)), Plan((2, 8, 2, 8)), backbone)
    places = [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in cache.layers]
    copies = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
    length = cache.get_seq_length()
    for first, size in ((3, 40), (7, SPARE_TOKENS - 1), (1, 2)):
        ids = torch.arange(first, first + size) % 50
        plain = DynamicCache(copies)
        for read in (ids, ids[:1]):
            assert torch.equal(backbone.logits(read, cache), backbone.logits(read, plain))
        assert [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in cache.layers] == places
        cache.crop(length - cache.get_seq_length())
