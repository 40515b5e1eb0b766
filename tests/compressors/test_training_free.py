"""Compressors without training, against computations by hand; what all of them keep to."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import chunks, index_of
from torch.distributions import MultivariateNormal

from x2l.cache import assemble
from x2l.compressors.cluster import Cluster, clusters
from x2l.compressors.expected_attention import ExpectedAttention
from x2l.compressors.key_norm import KeyNorm
from x2l.compressors.merge import Merge
from x2l.compressors.snap import Snap
from x2l.compressors.streaming import Streaming
from x2l.compressors.subsample import Subsample
from x2l.errors import X2LError
from x2l.proportional import Proportional
from x2l.types import KV, Observed, ObservedKV, Plan

LAYERS, HEADS, DIM, GROUP, START = 2, 2, 6, 3, 10
ALL = [Subsample(), KeyNorm(), Snap(window=3), Streaming(), Merge(), Cluster(), ExpectedAttention()]


def name_of(compressor) -> str:
    return type(compressor).__name__


def kv_of(tokens: int, seed: int = 0, first: int = 0, batch: tuple[int, ...] = ()) -> ObservedKV:
    """Noise at the positions START, ..., the last of a chunk that is longer by `first`."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*batch, LAYERS, *shape, generator=generator)

    keys, values = noise(HEADS, tokens, DIM), noise(HEADS, tokens, DIM)
    queries = noise(HEADS * GROUP, first + tokens, DIM)
    weights = noise(HEADS * GROUP, first + tokens, first + tokens).tril().softmax(dim=-1).tril()
    observed = Observed(queries, None, lambda last: weights[..., -last:, :])
    positions = torch.arange(START, START + tokens)[None, None, None]
    return ObservedKV(keys, values, positions, observed=observed, first=first)


def rows_of(kv: KV) -> list:
    """Which tokens were kept, for each layer and head."""
    return (kv.positions[0] - START).tolist()


def best(scores: torch.Tensor, count: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i].item())[:count])


def assert_kept(level: KV, kv: KV):
    """Keys and values are those of the positions."""
    places = (level.positions[0] - START).expand(LAYERS, HEADS, -1)
    for layer in range(LAYERS):
        for head in range(HEADS):
            rows = places[layer, head]
            assert torch.equal(level.keys[layer, head], kv.keys[layer, head, rows])
            assert torch.equal(level.values[layer, head], kv.values[layer, head, rows])


def test_subsample_keeps_the_last_of_each_group():
    level = Subsample().compress(kv := kv_of(10), 4)
    assert rows_of(level) == [[[3, 7, 9]]] and level.counts.tolist() == [4, 4, 2]
    assert_kept(level, kv)


@pytest.mark.parametrize(
    ("sinks", "ratio", "rows"),
    [(2, 2, [0, 1, 7, 8, 9]), (4, 2, [0, 1, 7, 8, 9]), (0, 5, [8, 9]), (4, 5, [0, 9]), (4, 32, [9])],
)
def test_streaming_keeps_both_ends_of_a_chunk(sinks, ratio, rows):
    level = Streaming(sinks).compress(kv := kv_of(10), ratio)
    assert rows_of(level) == [[rows]]
    assert_kept(level, kv)


def test_key_norm_keeps_the_smallest_in_each_layer_and_head():
    kv = kv_of(11)
    level = KeyNorm().compress(kv, 3)
    norms = [[[math.dist(key, [0] * DIM) for key in head] for head in layer] for layer in kv.keys.tolist()]
    expected = [[sorted(sorted(range(11), key=head.__getitem__)[:3]) for head in layer] for layer in norms]
    assert rows_of(level) == expected and expected[0] != expected[1]
    assert level.counts.tolist() == pytest.approx([11 / 3] * 3)
    assert_kept(level, kv)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("first", [0, 5], ids=["a chunk", "a run behind text"])
def test_snap_keeps_what_the_window_votes_for(kernel, first):
    kv, window = kv_of(12, first=first), 4
    level = Snap(window, kernel).compress(kv, 3)
    weights, total = kv.observed.attend(window), first + 12
    for layer in range(LAYERS):
        for head in range(HEADS):
            votes = []
            for column in range(first, total):
                voters = [row for row in range(total - window, total) if row >= column]
                of_heads = weights[layer, head * GROUP : (head + 1) * GROUP]
                given = [of_heads[:, row - total, column].mean() for row in voters]
                votes.append(sum(given) / len(voters))
            near = [votes[max(0, i - kernel // 2) : i + kernel // 2 + 1] for i in range(12)]
            assert rows_of(level)[layer][head] == best(torch.stack([sum(v) / len(v) for v in near]), 4)
    assert_kept(level, kv)


def test_a_window_and_a_kernel_that_make_no_sense_are_refused():
    for fields, message in (
        ({"window": 0}, "compressor.window: expected a positive integer, got 0"),
        ({"kernel": 4}, "compressor.kernel: expected a positive odd integer, got 4"),
    ):
        with pytest.raises(X2LError, match=message):
            Snap(**fields)
    with pytest.raises(X2LError, match=r"compressor.sinks: expected an integer of 0 or more, got -1"):
        Streaming(-1)


def test_expected_attention_is_the_mean_over_queries_like_the_chunks():
    kv = kv_of(9)
    log_worth = ExpectedAttention().score(kv)
    queries = kv.queries[1, GROUP : 2 * GROUP].reshape(-1, DIM)  # of layer 1, second head of the keys
    covariance = torch.cov(queries.T, correction=0)
    drawn = MultivariateNormal(queries.mean(dim=0), covariance).sample((400_000,))
    attention = (drawn @ kv.keys[1, 1].T / DIM**0.5).exp().mean(dim=0)
    expected = (attention * kv.values[1, 1].norm(dim=-1)).log()
    torch.testing.assert_close(log_worth[1, 1], expected, atol=0.03, rtol=0)


def by_hand(keys: torch.Tensor, num_kept: int) -> list[tuple[int, set[int]]]:
    """ToMe with sets: which tokens each holds, and where it stands."""
    groups = [(i, {i}) for i in range(keys.shape[-2])]

    def alike(one: set[int], other: set[int]) -> float:
        means = (keys[..., sorted(group), :].mean(dim=-2) for group in (one, other))
        return torch.nn.functional.cosine_similarity(*means, dim=-1).mean().item()

    while (many := len(groups) - num_kept) > 0:
        firsts, seconds = groups[::2], groups[1::2]
        bonds = []
        for first in firsts:
            likeness = [alike(first[1], second[1]) for second in seconds]
            bonds.append((max(likeness), first, likeness.index(max(likeness))))
        held = [set(second[1]) for second in seconds]
        gone = sorted(bonds, key=lambda bond: -bond[0])[:many]
        for _, first, second in gone:
            held[second] |= first[1]
        left = [first for first in firsts if first not in [bond[1] for bond in gone]]
        groups = sorted(left + [(second[0], held[i]) for i, second in enumerate(seconds)])
    return groups


@pytest.mark.parametrize(("tokens", "ratio"), [(10, 2), (11, 3), (13, 5), (7, 32)])
def test_merge_joins_the_most_alike(tokens, ratio):
    kv = kv_of(tokens, seed=tokens)
    level = Merge().compress(kv, ratio)
    expected = by_hand(kv.keys, max(1, tokens // ratio))
    assert rows_of(level) == [[[stands for stands, _ in expected]]]
    assert level.counts.tolist() == [len(held) for _, held in expected]
    for part in ("keys", "values"):
        means = [getattr(kv, part)[..., sorted(held), :].mean(dim=-2) for _, held in expected]
        torch.testing.assert_close(getattr(level, part), torch.stack(means, dim=-2))


def test_merge_finds_tokens_that_are_the_same():
    kv = kv_of(8)
    twins = KV(kv.keys[..., [0, 0, 1, 2, 2, 1, 3, 3], :], kv.values, kv.positions)
    level = Merge().compress(twins, 2)
    assert level.counts.tolist() == [2, 2, 2, 2] and rows_of(level) == [[[1, 3, 5, 7]]]


def squared_error(keys: torch.Tensor, groups: list[set[int]]) -> float:
    held = [keys[..., sorted(group), :] for group in groups]
    return sum(((group - group.mean(dim=-2, keepdim=True)) ** 2).sum().item() for group in held)


def ward_by_hand(keys: torch.Tensor, num_kept: int) -> list[set[int]]:
    """Of all pairs the one that adds least to the squared error merges, one after the other."""
    groups = [{token} for token in range(keys.shape[-2])]
    while len(groups) > num_kept:
        joins = [
            [*(group for group in groups if group not in pair), set.union(*pair)]
            for pair in combinations(groups, 2)
        ]
        groups = min(joins, key=lambda join: squared_error(keys, join))
    return sorted(groups, key=max)


@pytest.mark.parametrize(("tokens", "ratio"), [(10, 2), (16, 5), (13, 3), (7, 32), (12, 1), (1, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_clusters_add_least_to_the_squared_error(tokens, ratio, seed):
    kv = kv_of(tokens, seed)
    level = Cluster().compress(kv, ratio)
    expected = ward_by_hand(kv.keys.double(), max(1, tokens // ratio))
    assert rows_of(level) == [[[max(held) for held in expected]]]
    assert level.counts.tolist() == [len(held) for held in expected]
    for part in ("keys", "values"):
        means = [getattr(kv, part)[..., sorted(held), :].mean(dim=-2) for held in expected]
        torch.testing.assert_close(getattr(level, part), torch.stack(means, dim=-2))


def test_clusters_of_several_sizes_are_those_of_each_alone_one_within_the_other():
    keys = kv_of(20).keys
    fine, coarse = both = clusters(keys, [10, 3])
    for (held, stands), num in zip(both, (10, 3), strict=True):
        ((alone, places),) = clusters(keys, [num])
        assert torch.equal(held, alone) and torch.equal(stands, places)
    shared = coarse[0] @ fine[0].T  # how much of each fine one every coarse one holds
    assert ((shared > 0).sum(dim=0) == 1).all()


@given(tokens=st.integers(2, 24), num=st.integers(1, 24), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_tokens_that_are_all_as_far_from_each_other_are_clustered(tokens, num, scale, seed):
    """All costs are equal but for rounding, which must not leave every cluster without a pair."""
    draw = torch.Generator().manual_seed(seed)
    turned = torch.linalg.qr(torch.randn(tokens, tokens, generator=draw)).Q
    for keys in (scale * torch.eye(tokens), scale * turned):
        ((held, stands),) = clusters(keys[None, None], [min(num, tokens)])
        assert held.sum(dim=0).tolist() == [1.0] * tokens and len(stands) == min(num, tokens)


@given(tokens=st.integers(2, 60), seed=st.integers(0, 9))
def test_a_cluster_of_equal_keys_is_found_and_what_is_like_nothing_stays_alone(tokens, seed):
    """Exact ties, too: all but one token repeat two kinds."""
    kv = kv_of(3, seed)
    draw = torch.Generator().manual_seed(seed)
    kinds = torch.randint(2, (tokens,), generator=draw)
    kinds[torch.randint(tokens, (1,), generator=draw)] = 2
    many = KV(kv.keys[..., kinds, :], kv.values[..., kinds, :], torch.arange(tokens)[None, None, None])
    ((held, stands),) = clusters(many.keys, [num := len(kinds.unique())])
    assert sorted(held.sum(dim=-1).tolist()) == sorted(kinds.bincount(minlength=3)[kinds.unique()].tolist())
    assert all(len(kinds[row.bool()].unique()) == 1 for row in held)
    assert len(stands) == num and stands.tolist() == sorted(int(row.nonzero().max()) for row in held)


@pytest.mark.parametrize("compressor", ALL, ids=name_of)
@given(tokens=st.integers(1, 40), ratio=st.sampled_from([1, 2, 3, 7, 32]), seed=st.integers(0, 9))
def test_what_is_kept_stands_for_the_whole_chunk_in_order(compressor, tokens, ratio, seed):
    kv = kv_of(tokens, seed)
    level = compressor._compressed(kv, ratio)
    if level.num_tokens < tokens:  # else each stands for itself
        assert level.counts.sum().item() == pytest.approx(tokens)
    assert level.num_tokens in {max(1, tokens // ratio), -(-tokens // ratio)}
    assert (level.positions.diff(dim=-1) > 0).all()
    assert set(level.positions.flatten().tolist()) <= set(kv.positions.flatten().tolist())
    if ratio == 1:
        assert torch.equal(level.keys, kv.keys) and torch.equal(level.values, kv.values)


@pytest.mark.parametrize("compressor", ALL, ids=name_of)
def test_a_batch_keeps_of_each_video_what_it_would_alone(compressor):
    kv = kv_of(20, batch=(3,))
    level = compressor._compressed(kv, 4)
    for video in range(3):
        observed = Observed(
            kv.observed.queries[video], None, lambda last, video=video: kv.observed.attend(last)[video]
        )
        alone = compressor._compressed(
            ObservedKV(kv.keys[video], kv.values[video], kv.positions, observed=observed), 4
        )
        torch.testing.assert_close(level.keys[video], alone.keys)
        own = level.positions if level.positions.ndim == 4 else level.positions[:, video]
        assert torch.equal(own, alone.positions)
        counts = level.counts.expand(3, -1)[video]
        assert torch.equal(counts, alone.counts)


@pytest.mark.parametrize("compressor", [c for c in ALL if not isinstance(c, Merge | Cluster)], ids=name_of)
@torch.no_grad()
def test_a_chunk_is_heard_as_if_it_were_whole(backbone, compressor):
    """With beta 1, e**bias of a level's tokens sums to what all of its chunk would have at the base.

    Not of merged tokens: one that stands for fewer than the base is heard as it is.
    """
    source = chunks(backbone, num_chunks=3, ragged=True)
    index = index_of(backbone, compressor, source, (1, 4))
    cache = assemble(index, Plan((4, 1, 4)), backbone.weighing(Proportional(beta=1.0)))
    heard = cache.bias.exp()[index.prefix.num_tokens :].split(cache.tokens_per_chunk)
    tokens = [len(chunk.visual_tokens) for chunk in source]
    assert cache.tokens_per_chunk == (tokens[0] // 4, tokens[1], tokens[2] // 4)
    expected = [tokens[0] / backbone.base_count, tokens[1], tokens[2] / backbone.base_count]
    assert [weights.sum().item() for weights in heard] == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_tokens_of_each_head_keep_their_own_places(backbone):
    """Where positions are those of the uncompressed sequence, keys are rotated to them in every head."""
    source = chunks(backbone, num_chunks=2)
    index = index_of(backbone, KeyNorm(), source, (4,))
    kv = index.chunks[0].levels[4]
    rotated = backbone.rotate(kv.keys, kv.positions)
    for layer, head in ((0, 1), (2, 0)):
        alone = kv.positions[:, layer, head][:, None, None]
        expected = backbone.rotate(kv.keys[layer, head][None, None], alone)
        torch.testing.assert_close(rotated[layer, head], expected[0, 0])
    assert not torch.equal(kv.positions[:, 0, 1], kv.positions[:, 2, 0])
