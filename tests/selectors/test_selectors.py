"""Which chunks each selector re-loads."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import bare_index

from x2l import registry
from x2l.selectors.constant import Constant
from x2l.selectors.last_n import LastN
from x2l.selectors.random import Random
from x2l.selectors.top_k import TopK
from x2l.selectors.uniform import Uniform
from x2l.types import DROPPED, X2LError

DETAIL = ("top_k", "random", "last_n", "uniform")
SCORES = torch.tensor([0.1, 0.7, -2.0, 0.7, 0.9, 0.7])


def chosen(selector, num_chunks=6, scores=None, **index) -> list[int]:
    plan = selector.choose(scores, bare_index(num_chunks, **index))
    assert set(plan.ratios) <= {2, 32} and len(plan.ratios) == num_chunks
    return [i for i, ratio in enumerate(plan.ratios) if ratio == 2]


def error_of(call, *args, **kwargs) -> str:
    with pytest.raises(X2LError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("k", "expected"), [(0, []), (1, [4]), (2, [1, 4]), (3, [1, 3, 4]), (9, list(range(6)))]
)
def test_top_k_takes_the_best_and_of_equal_ones_the_earlier(k, expected):
    assert chosen(TopK(k), scores=SCORES) == expected


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(0, 8))
def test_top_k_leaves_nothing_better_behind(values, k):
    selected = chosen(TopK(k), len(values), torch.tensor(values, dtype=torch.float32))
    left = set(range(len(values))) - set(selected)
    assert len(selected) == min(k, len(values))
    assert all((values[i], -i) > (values[j], -j) for i in selected for j in left)


def test_without_scores_top_k_re_loads_nothing():
    assert chosen(TopK()) == []


def test_middle_ratios_are_not_used():
    assert TopK(1).choose(SCORES, bare_index(6, (4, 2, 32))).ratios == (32, 32, 32, 32, 2, 32)


def test_the_ratios_of_both_kinds_of_chunk_can_be_chosen():
    index, picks_the_end = bare_index(4, (2, 4, 8, 32)), {"k": 1, "detail_ratio": 4}
    assert LastN(**picks_the_end).choose(None, index).ratios == (32, 32, 32, 4)
    assert LastN(**picks_the_end, gist_ratio=8).choose(None, index).ratios == (8, 8, 8, 4)
    assert LastN(**picks_the_end, gist_ratio=DROPPED).choose(None, index).ratios == (0, 0, 0, 4)


@pytest.mark.parametrize("field", ["detail_ratio", "gist_ratio"])
def test_a_ratio_that_the_index_does_not_hold_is_named(field):
    message = error_of(LastN(**{field: 5}).choose, None, bare_index(4))
    assert message == f"selector.{field}: 5, the index has only [2, 32]"


def test_detail_cannot_be_dropped():
    assert "selector.detail_ratio: 0" in error_of(LastN, detail_ratio=DROPPED)


def test_last_n_takes_the_end():
    assert chosen(LastN(2)) == [4, 5] and chosen(LastN(0)) == [] and chosen(LastN(9), 2) == [0, 1]


@pytest.mark.parametrize(
    ("k", "num_chunks", "expected"),
    [(1, 5, [2]), (3, 9, [1, 4, 7]), (3, 3, [0, 1, 2]), (2, 21, [5, 15]), (0, 4, []), (5, 2, [0, 1])],
)
def test_uniform_takes_the_middle_of_equal_parts(k, num_chunks, expected):
    assert chosen(Uniform(k), num_chunks) == expected


@given(st.integers(1, 60), st.integers(1, 60))
def test_uniform_spreads_evenly(k, num_chunks):
    selected = chosen(Uniform(k), num_chunks)
    assert len(selected) == min(k, num_chunks)
    gaps = [right - left for left, right in pairwise(selected)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_random_depends_on_seed_and_video_and_not_on_scores():
    selected = chosen(Random(4), 40)
    assert len(selected) == 4
    assert selected == chosen(Random(4), 40, torch.randn(40))
    assert selected != chosen(Random(4, seed=1), 40)
    assert selected != chosen(Random(4), 40, sha256="another")
    assert selected != chosen(Random(4), 40, sampling={"fps": 0.5})


def test_random_draws_the_same_for_a_copy_of_the_video_and_another_reader():
    drawn = {
        tuple(chosen(Random(4), 40, sha256="a", file=name, reader=reader))
        for name in ("one.mp4", "two.mp4")
        for reader in ("decord", "av")
    }
    assert len(drawn) == 1


def test_random_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    chosen(Random(2))
    assert torch.equal(before, torch.get_rng_state())


def test_random_reaches_every_chunk_about_equally_often():
    counts = torch.zeros(8)
    for seed in range(400):
        counts[chosen(Random(2, seed), 8)] += 1
    assert counts.sum() == 800 and counts.min() > 60 and counts.max() < 140


def test_constant_gives_one_ratio_to_all():
    index = bare_index(3)
    assert Constant().choose(None, index).ratios == (2, 2, 2)
    assert Constant(32).choose(None, index).ratios == (32, 32, 32)
    assert error_of(Constant(8).choose, None, index) == "selector.ratio: 8, the index has only [2, 32]"


@pytest.mark.parametrize("ratio", [0, -2])
def test_constant_cannot_drop_everything(ratio):
    assert "selector.ratio" in error_of(Constant, ratio)


@pytest.mark.parametrize("name", DETAIL)
def test_k_is_never_negative(name):
    assert "selector.k: -1" in error_of(registry.build, "selector", {"name": name, "k": -1})


@pytest.mark.parametrize("name", [*DETAIL, "constant"])
def test_plans_carry_the_scores(name):
    selector = registry.build("selector", name)
    plan = selector.choose(SCORES, bare_index(6))
    assert plan.scores == tuple(SCORES.tolist())
    assert selector.choose(None, bare_index(6)).scores is None
