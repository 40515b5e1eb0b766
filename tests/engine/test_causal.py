"""Attention without a mask is attention with one, wherever rows are the last of all keys."""

import pytest
import torch
from torch.testing import assert_close
from transformers import DynamicCache, Qwen2Config, StaticCache
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention, eager_attention_forward

from x2l import split_attention
from x2l.engine import causal
from x2l.engine.causal import CAUSAL_SDPA, biased_mask

HEADS = [(4, 4), (6, 2), (7, 1)]
"""How many there are, and how many of keys."""
ROWS = [(1, 1), (1, 34), (2, 1), (7, 7), (13, 41), (67, 701), (131, 3)]
"""How many are read, and how many lie in the cache."""
BATCH, DIM = 2, 16


@pytest.fixture(params=["kernel", "no kernel"])
def kernel(request, monkeypatch):
    """torch as it is, and one that has changed what is private."""
    if request.param == "no kernel":
        monkeypatch.setattr(split_attention, "cpu_kernel", lambda: None)
    return request.param


def config_of(implementation: str, heads=(6, 2), **fields) -> Qwen2Config:
    sizes = {"num_attention_heads": heads[0], "num_key_value_heads": heads[1], "head_dim": DIM}
    config = Qwen2Config(hidden_size=heads[0] * DIM, num_hidden_layers=1, **sizes, **fields)
    config._attn_implementation = implementation
    return config


def mask_of(
    config: Qwen2Config, num_read: int, cache, make=create_causal_mask, **given
) -> torch.Tensor | None:
    """As transformers' models ask for it."""
    embeds = torch.empty(BATCH, num_read, config.hidden_size)
    return make(config, embeds, given.pop("attention_mask", None), cache, **given)


def states_of(heads: int, tokens: int, dtype=torch.float32) -> torch.Tensor:
    """Of every head, as a projection leaves them."""
    return torch.randn(BATCH, tokens, heads, DIM, dtype=dtype).transpose(1, 2)


def filled(keys: torch.Tensor) -> DynamicCache:
    return DynamicCache([(keys, keys)])


def attended(implementation: str, query, keys, values, mask=None, **given) -> torch.Tensor:
    """What the rows find, by the mask that transformers makes for the implementation if none is given."""
    config = config_of(implementation, (query.shape[1], keys.shape[1]))
    num_read = query.shape[2]
    if mask is None:
        mask = mask_of(config, num_read, filled(keys[:, :, :-num_read]))
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
    return attend(Qwen2Attention(config, 0).eval(), query, keys, values, mask, scaling=0.3, **given)[0]


@pytest.mark.parametrize("heads", HEADS)
@torch.no_grad()
def test_it_is_eager_attention_at_odd_sizes_with_a_bias_and_without(heads, kernel):
    torch.manual_seed(0)
    for num_read, num_cached in ROWS:
        query, keys, values = (states_of(n, num_cached + num_read) for n in (heads[0], heads[1], heads[1]))
        query = query[:, :, -num_read:]
        expected = attended("eager", query, keys, values)
        assert_close(attended(CAUSAL_SDPA, query, keys, values), expected, atol=1e-5, rtol=1e-5)
        bias = torch.cat((torch.rand(num_cached) * 4, torch.zeros(num_read)))
        expected = attended("eager", query, keys, values, biased_mask(bias, num_read))
        got = attended(CAUSAL_SDPA, query, keys, values, cache_bias=bias)
        assert_close(got, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_half_precision_is_merged_as_it_is_attended_to(kernel):
    torch.manual_seed(0)
    query, keys, values = states_of(6, 40), states_of(2, 140), states_of(2, 140)
    expected = attended("eager", query, keys, values)
    got = attended(CAUSAL_SDPA, *(states.bfloat16() for states in (query, keys, values)))
    assert got.dtype == torch.bfloat16
    assert_close(got.float(), expected, atol=2e-2, rtol=2e-2)


def test_gradients_are_those_of_eager_attention(kernel):
    torch.manual_seed(0)
    given = [states_of(6, 9), states_of(2, 30), states_of(2, 30)]
    bias = torch.cat((torch.rand(21), torch.zeros(9)))
    for options, mask in (({}, None), ({"cache_bias": bias}, biased_mask(bias, 9))):
        gradients = []
        for implementation, its_mask, its_options in (("eager", mask, {}), (CAUSAL_SDPA, None, options)):
            leaves = [states.clone().requires_grad_() for states in given]
            found = attended(implementation, *leaves, its_mask, **its_options)
            gradients.append(torch.autograd.grad(found.square().sum(), leaves))
        for one, other in zip(*gradients, strict=True):
            assert_close(one, other, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_no_mask_is_made_for_rows_that_are_the_last_of_all_keys(kernel):
    config, keys = config_of(CAUSAL_SDPA), states_of(2, 50)
    is_left_out = mask_of(config, 8, filled(keys)) is None
    assert is_left_out == (kernel == "kernel")
    seen = torch.ones(BATCH, 58, dtype=torch.long)
    assert (mask_of(config, 8, filled(keys), attention_mask=seen) is None) == is_left_out


def other_masks(implementation: str):
    """Masks of what is not plainly causal: padding, a window, an overlay, rows in front of empty keys."""
    config, keys = config_of(implementation, sliding_window=5, use_sliding_window=True), states_of(2, 50)
    padding = torch.ones(BATCH, 58, dtype=torch.long).index_fill(1, torch.tensor([0, 3]), 0)
    yield mask_of(config, 8, filled(keys), attention_mask=padding)
    yield mask_of(config, 8, filled(keys), create_sliding_window_causal_mask)
    yield mask_of(config, 8, filled(keys), or_mask_function=lambda batch, head, row, seen: seen == row + 1)
    static = StaticCache(config_of(implementation), max_cache_len=20)
    yield mask_of(config, 8, static)
    static.update(keys[:, :, :6], keys[:, :, :6], 0)
    yield mask_of(config, 8, static)


@torch.no_grad()
def test_other_masks_are_made_as_ever():
    of_sdpa, of_ours = (list(other_masks(name)) for name in ("sdpa", CAUSAL_SDPA))
    rows, seen = torch.arange(8)[:, None], torch.arange(20)
    assert of_sdpa[3] is None  # sdpa cuts the empty keys off where it finds none
    of_sdpa[3] = (rows >= seen).expand(BATCH, 1, -1, -1)
    for expected, got in zip(of_sdpa, of_ours, strict=True):
        assert torch.equal(got.expand_as(expected), expected)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@torch.no_grad()
def test_the_rule_that_other_devices_are_told_is_eager_attention(dtype, within, monkeypatch):
    """Here torch makes a mask of it. Grouped heads go in as they are in half precision, else repeated."""
    torch.manual_seed(0)
    query, keys, values = states_of(6, 13), states_of(2, 54), states_of(2, 54)
    bias = torch.cat((torch.rand(41), torch.zeros(13)))
    biased = attended("eager", query, keys, values, biased_mask(bias, 13))
    plain = attended("eager", query, keys, values)
    query, keys, values = (states.to(dtype) for states in (query, keys, values))
    monkeypatch.setattr(causal, "can_split", lambda device: False)
    for expected, row in ((plain, None), (biased, bias.to(dtype))):
        got = causal._lower_right(query, keys, values, row, 0.0, 0.3).transpose(1, 2)
        assert_close(got.float(), expected, atol=within, rtol=within)
