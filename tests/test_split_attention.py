"""Rows find among two runs of keys what softmax finds among both."""

import math

import pytest
import torch

from x2l.split_attention import cpu_kernel, split_attention

DIM, SCALE = 16, 0.3


@pytest.mark.skipif(cpu_kernel() is None, reason="this torch has no such kernel")
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (7, 1)])
@torch.no_grad()
def test_it_is_softmax_over_both_with_any_mask_of_their_own(heads, kv_heads):
    random = torch.Generator().manual_seed(heads)
    for read, num_own, num_cached in ((1, 1, 5), (3, 9, 1), (37, 70, 129)):
        query = torch.randn(2, heads, read, DIM, generator=random)
        keys, values = torch.randn(2, 2, kv_heads, num_cached + num_own, DIM, generator=random)
        bias = 3 * torch.rand(num_cached, generator=random)
        seen = torch.rand(read, num_own, generator=random) < 0.4
        seen[:, 0] = True
        mask = torch.zeros(read, num_cached + num_own)
        mask[:, :num_cached] = bias
        mask[:, num_cached:].masked_fill_(~seen, -math.inf)
        wide_keys, wide_values = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (keys, values))
        expected = (SCALE * query @ wide_keys.mT + mask).softmax(dim=-1) @ wide_values
        cached, own = (
            (keys[:, :, part], values[:, :, part]) for part in (slice(num_cached), slice(num_cached, None))
        )
        attended = split_attention(query, cached, own, SCALE, bias, seen)
        torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)
