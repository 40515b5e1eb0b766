"""The adapter of kvpress: what a press is given, and what becomes of its scores."""

import sys

import kvpress_stand_in
import pytest
import torch
from models import chunks, encoded

from x2l import build
from x2l.compressors.key_norm import KeyNorm
from x2l.errors import X2LError
from x2l.types import ObservedKV


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "kvpress", kvpress_stand_in)


@pytest.fixture(scope="module")
def source(backbone):
    return chunks(backbone, num_chunks=3, ragged=True)


def adapter(press="KnormPress", **options):
    return build("compressor", {"name": "kvpress", "press": press, "options": options})


def test_a_press_keeps_what_the_same_method_of_x2l_keeps(backbone, source):
    own, other = (encoded(backbone, each, source, (1, 4)) for each in (KeyNorm(), adapter()))
    for one, two in zip(own, other, strict=True):
        for ratio in (1, 4):
            for part in ("keys", "values", "positions"):
                assert torch.equal(getattr(one.levels[ratio], part), getattr(two.levels[ratio], part))


@torch.no_grad()
def test_a_press_sees_what_the_layer_computes(backbone, source):
    """Attention of the last token from its inputs is that of the pre-fill, within the chunk."""
    memory = backbone.extend(None, backbone.begin())
    kv, observed = backbone.prefill_observed(source[0], memory, {"hidden", "attention"})
    compressor = adapter("LastQueryPress")
    compressor._press, compressor._backbone = compressor.made(), backbone
    scores = compressor.score(ObservedKV(**vars(kv), observed=observed))
    heads_per_key = observed.attend(1).shape[1] // kv.keys.shape[1]
    weights = observed.attend(1)[:, ::heads_per_key, 0]
    torch.testing.assert_close(scores.softmax(dim=-1), weights / weights.sum(dim=-1, keepdim=True))


def test_a_press_is_told_the_ratio_and_its_options(backbone, source):
    for ratio, kept in ((2, 10), (4, 5)):
        made = encoded(backbone, adapter("RatioPress", shift=3), source, (ratio,))[0]
        first = backbone.begin().num_tokens + 3
        assert made.levels[ratio].positions[0, 1, 1].tolist() == list(range(first, first + kept))


@pytest.mark.parametrize(
    ("press", "options", "message"),
    [
        ("NoPress", {}, r"compressor.press: expected a press of kvpress that scores, got NoPress"),
        ("PruningPress", {}, r"compressor.press: expected a press of kvpress that scores, got PruningPress"),
        ("KnormPress", {"size": 1}, r"compressor.options: KnormPress takes no such arguments: .*size"),
        ("RatioPress", {"shift": 50}, r"compressor.press: RatioPress fails on 20 tokens: too few tokens"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(backbone, source, press, options, message):
    with pytest.raises(X2LError, match=message) as caught:
        encoded(backbone, adapter(press, **options), source)
    assert "\n" not in str(caught.value)


def test_without_the_package_it_says_what_to_install(backbone, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "kvpress", None)
    with pytest.raises(X2LError, match=r"needs the package kvpress .* `pip install --no-deps kvpress`"):
        encoded(backbone, adapter(), source)
