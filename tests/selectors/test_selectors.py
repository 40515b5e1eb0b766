"""Which chunks each selector re-loads."""

from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import bare_index

from x2l import registry
from x2l.selectors.always_edges import AlwaysEdges
from x2l.selectors.constant import Constant
from x2l.selectors.diverse import Diverse
from x2l.selectors.knapsack import Knapsack, details
from x2l.selectors.last_n import LastN
from x2l.selectors.neighbours import Neighbours
from x2l.selectors.random import Random
from x2l.selectors.threshold import Threshold
from x2l.selectors.top_k import TopK
from x2l.selectors.top_p import TopP
from x2l.selectors.uniform import Uniform
from x2l.standard_scores import standard_scores
from x2l.types import DROPPED, KV, Plan, X2LError

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


def test_threshold_takes_what_stands_out_and_never_fewer_than_asked():
    two_stand_out = torch.tensor([0.0, 5.0, 0.1, -0.1, 4.5, 0.0, 0.2, 0.0])
    assert chosen(Threshold(above=1.5, fewest=0), 8, two_stand_out) == [1, 4]
    assert chosen(Threshold(), 8, two_stand_out) == [1, 4, 6]
    assert chosen(Threshold(above=1.5, fewest=0, most=1), 8, two_stand_out) == [1]
    assert chosen(Threshold(fewest=2), 8, torch.zeros(8)) == [0, 1]
    assert chosen(Threshold(), 8) == []
    assert error_of(Threshold, most=2) == "selector.most: 2, expected 3 (fewest) or more"


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30), st.floats(0.1, 5), st.floats(-3, 3))
def test_what_stands_out_does_not_depend_on_the_scale_of_the_scores(values, scale, shift):
    scores = torch.tensor(values, dtype=torch.float64)
    if not torch.isclose(
        standard_scores(scores), torch.tensor(Threshold().above, dtype=torch.float64), atol=1e-6
    ).any():
        selected = [chosen(Threshold(), len(values), each) for each in (scores, scores * scale + shift)]
        assert selected[0] == selected[1]


@pytest.mark.parametrize(("p", "expected"), [(0.1, [4]), (0.5, [1, 4]), (1.0, list(range(6)))])
def test_top_p_takes_the_fewest_that_hold_the_share(p, expected):
    """Shares at temperature 1: 0.26, 0.22, 0.22, 0.22, 0.10, 0.01 from the best down."""
    scores = torch.tensor([-1.0, 1.0, -1.0, -1.0, 1.2, -1.0])
    assert chosen(TopP(p=p, temperature=1.0), scores=scores) == expected


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=30), st.floats(0.05, 1.0))
def test_top_p_holds_the_share_and_would_not_without_its_last(values, p):
    scores = torch.tensor(values)
    shares = (standard_scores(scores) / 0.5).softmax(dim=0)
    selected = chosen(TopP(p=p), len(values), scores)
    assert shares[selected].sum() >= p - 1e-5
    assert shares[selected].sum() - shares[selected].min() < p


def test_wrappers_widen_what_another_selector_chose():
    assert chosen(AlwaysEdges(inner=TopK(1)), scores=SCORES) == [0, 4, 5]
    assert chosen(AlwaysEdges(num=2, inner=TopK(0))) == [0, 1, 4, 5]
    assert chosen(Neighbours(inner=TopK(2)), scores=SCORES) == [0, 1, 2, 3, 4, 5]
    assert chosen(Neighbours(inner=TopK(1)), scores=SCORES) == [3, 4, 5]
    assert not AlwaysEdges(inner=LastN()).uses_scores and AlwaysEdges().uses_scores
    finer = Neighbours(inner=TopK(1, detail_ratio=4), detail_ratio=4)
    assert finer.choose(SCORES, bare_index(6, (2, 4, 32))).ratios == (32, 32, 32, 4, 4, 4)


def index_of_levels(costs: list[dict[int, int]]):
    """Chunks with so many tokens at each ratio."""
    index = bare_index(len(costs))
    levels = [{ratio: tokens(num) for ratio, num in cost.items()} for cost in costs]
    chunks = zip(index.chunks, levels, strict=True)
    return replace(index, chunks=tuple(replace(chunk, levels=level) for chunk, level in chunks))


def tokens(num: int) -> KV:
    zeros = torch.zeros(1, 1, num, 1)
    return KV(zeros, zeros, torch.arange(num)[None, None, None])


@settings(max_examples=40)
@given(st.data(), st.integers(1, 4), st.sampled_from([(2, 32), (2, 8, 32)]))
def test_knapsack_finds_the_best_plan_of_all(data, num_chunks, ratios):
    """Against every plan there is."""
    sizes = st.lists(st.integers(1, 20), min_size=len(ratios), max_size=len(ratios))
    drawn = [sorted(data.draw(sizes), reverse=True) for _ in range(num_chunks)]
    costs = [dict(zip(ratios, each, strict=True)) for each in drawn]
    index = index_of_levels(costs)
    values = st.lists(st.integers(-5, 5), min_size=num_chunks, max_size=num_chunks)
    scores = torch.tensor(data.draw(values), dtype=torch.float32)
    budget = data.draw(st.integers(sum(min(cost.values()) for cost in costs), 100))
    weights = (standard_scores(scores).double() / 0.5).softmax(dim=0).tolist()
    detail = dict(zip(ratios, details(list(ratios)).tolist(), strict=True))

    def worth(plan) -> float:
        return sum(weight * detail[ratio] for weight, ratio in zip(weights, plan, strict=True))

    plan = Knapsack(budget).choose(scores, index)
    assert sum(index.planned_tokens(plan)) <= budget
    fitting = [p for p in product(ratios, repeat=num_chunks) if sum(index.planned_tokens(Plan(p))) <= budget]
    assert worth(plan.ratios) == pytest.approx(max(map(worth, fitting)))


def test_knapsack_leaves_chunks_out_only_where_it_must():
    index = index_of_levels([{2: 16, 32: 1}] * 6)
    assert Knapsack(6).choose(SCORES, index).ratios == (32,) * 6
    assert Knapsack(5).choose(SCORES, index).ratios == (32, 32, DROPPED, 32, 32, 32)
    assert Knapsack(21).choose(SCORES, index).ratios == (32, 32, 32, 32, 2, 32)
    empty = error_of(Knapsack(1).choose, SCORES, index_of_levels([{2: 16, 32: 2}]))
    assert empty == "selector.budget: 1 tokens, expected room for one of the chunks"


def test_knapsack_uses_the_levels_that_it_is_given():
    index = index_of_levels([{2: 16, 8: 4, 32: 1}] * 6)
    assert Knapsack(21, ratios=(2, 32)).choose(SCORES, index).ratios == (32, 32, 32, 32, 2, 32)
    assert set(Knapsack(21, ratios=(8, 32)).choose(SCORES, index).ratios) == {8, 32}
    assert (
        error_of(Knapsack(ratios=(4,)).choose, SCORES, index)
        == "selector.ratios: 4, the index has only [2, 8, 32]"
    )


def test_a_share_has_room_for_the_fewest_in_detail():
    """Six chunks of 16 tokens at 2x and 1 at 32x, 192 before compression."""
    index = index_of_levels([{2: 16, 32: 1}] * 6)
    index = replace(index, chunks=tuple(replace(chunk, num_visual_tokens=32) for chunk in index.chunks))
    cases = ((0.15, 0, 1), (0.15, 3, 3), (0.01, 0, 0), (0.01, 2, 2), (0.3, 3, 3), (0.5, 3, 6))
    for share, fewest, detailed in cases:
        plan = Knapsack(share=share, fewest=fewest).choose(SCORES, index)
        assert plan.ratios.count(2) == detailed, (share, fewest)
    assert "selector.fewest: -1" in error_of(Knapsack, fewest=-1)


def test_diverse_passes_over_a_chunk_that_repeats_a_better_one():
    index, looks = bare_index(4), torch.tensor([[3.0, 0.0], [3.0, 0.1], [0.0, 2.0], [-2.0, -2.0]])
    kvs = [
        KV(look[None, None, None], look[None, None, None], torch.zeros(1, 1, 1, 1).long()) for look in looks
    ]
    chunks = zip(index.chunks, kvs, strict=True)
    index = replace(index, chunks=tuple(replace(chunk, levels={2: kv, 32: kv}) for chunk, kv in chunks))
    scores = torch.tensor([1.0, 0.9, 0.5, -1.0])
    assert Diverse(k=2, relevance=0.5).choose(scores, index).ratios == (2, 32, 2, 32)
    assert Diverse(k=2, relevance=1.0).choose(scores, index) == TopK(2).choose(scores, index)
