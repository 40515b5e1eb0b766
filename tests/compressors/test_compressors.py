"""What each compressor keeps."""

from itertools import pairwise

import pytest
import torch
from models import chunks, encoded

from x2l.compressors.identity import Identity
from x2l.compressors.low_resolution import grid_size, lower_resolution
from x2l.compressors.mean_pool import MeanPool, mean_of_groups
from x2l.compressors.vst import VST
from x2l.engine.chunkwise import ChunkCompressor, with_edges
from x2l.types import KV, X2LError

RATIOS = (2, 8)


@pytest.fixture(scope="module")
def source(backbone):
    """Four chunks of 20, 20, 20 and 12 tokens."""
    return chunks(backbone, num_chunks=4, ragged=True)


def sizes(chunk_kvs, ratio):
    return [chunk.levels[ratio].num_tokens for chunk in chunk_kvs]


def assert_same(one: KV, other: KV):
    for part in ("keys", "values", "positions"):
        assert torch.equal(getattr(one, part), getattr(other, part))


def test_identity_keeps_every_token_once(backbone, source):
    for chunk in encoded(backbone, Identity(), source, RATIOS):
        assert chunk.levels[2] is chunk.levels[8]
        assert chunk.levels[2].num_tokens == chunk.num_visual_tokens == 4 * chunk.num_frames


def test_identity_continues_the_positions_of_the_prefix(backbone, source):
    positions = [chunk.levels[2].positions[0, 0, 0] for chunk in encoded(backbone, Identity(), source)]
    start = backbone.begin().num_tokens
    assert torch.cat(positions).tolist() == list(range(start, start + 72))


def test_mean_pool_is_the_mean_of_neighbours(backbone, source):
    full = encoded(backbone, Identity(), source, (1,))
    pooled = encoded(backbone, MeanPool(), source, (8,))
    for before, after in zip(full, pooled, strict=True):
        before, after = before.levels[1], after.levels[8]
        groups = [slice(start, start + 8) for start in range(0, before.num_tokens, 8)]
        assert after.num_tokens == len(groups)
        for i, group in enumerate(groups):
            for part in ("keys", "values"):
                expected = getattr(before, part)[..., group, :].mean(dim=-2)
                torch.testing.assert_close(getattr(after, part)[..., i, :], expected)
            middle = before.positions[..., group].double().mean(dim=-1)
            assert torch.equal(after.positions[..., i], middle.long())


def test_mean_of_groups_pools_a_shorter_last_group():
    x = torch.tensor([[1.0], [3.0], [5.0], [7.0], [100.0]])
    assert mean_of_groups(x, 2).flatten().tolist() == [2.0, 6.0, 100.0]


def test_low_resolution_is_the_mean_of_cells_of_each_frame():
    grid = torch.arange(32.0).reshape(2, 4, 4)  # two frames of 4 x 4 tokens
    tokens = grid.reshape(32, 1)
    assert torch.equal(lower_resolution(tokens, 2, 1), tokens)
    halves = lower_resolution(tokens, 2, 2)[:, 0]
    assert torch.equal(halves, torch.stack((grid[:, ::2], grid[:, 1::2])).mean(0).flatten())
    quarters = lower_resolution(tokens, 2, 4)[:, 0]
    assert quarters.tolist()[:4] == [2.5, 4.5, 10.5, 12.5]
    assert lower_resolution(tokens, 2, 100)[:, 0].tolist() == [7.5, 23.5]


@pytest.mark.parametrize(
    ("side", "ratio", "expected"), [(4, 2, (2, 4)), (4, 3, (2, 2)), (12, 2, (6, 12)), (12, 36, (2, 2))]
)
def test_low_resolution_takes_the_finest_grid_that_fits(side, ratio, expected):
    assert grid_size(side, ratio) == expected


def test_low_resolution_needs_square_frames():
    with pytest.raises(X2LError, match="expected a square grid of tokens per frame, got 12 tokens of 4 fr"):
        lower_resolution(torch.zeros(12, 1), 4, 2)


def test_edge_chunks_are_kept_at_the_edge_ratio(backbone, source):
    chunk_kvs = encoded(backbone, VST(), source, RATIOS)
    # 20 tokens with a carry of 0 and then of 20 % 8 = 4; the last chunk holds 12 tokens.
    assert sizes(chunk_kvs, 2) == [10, 10, 10, 6]
    assert sizes(chunk_kvs, 8) == [10, 2, 3, 6]


def test_without_an_edge_ratio_all_chunks_are_alike(backbone, source):
    assert sizes(encoded(backbone, VST(edge_ratio=None), source, RATIOS), 8) == [2, 3, 2, 2]


def test_a_single_chunk_is_an_edge(backbone, source):
    assert sizes(encoded(backbone, VST(), source[:1], (8, 32)), 32) == [10]


def test_the_first_chunk_is_computed_once_where_its_ratios_are_equal(backbone, source):
    first, second, *_, last = encoded(backbone, VST(), source, RATIOS)
    assert first.levels[2] is first.levels[8] and second.levels[2] is not second.levels[8]
    assert last.levels[2].num_tokens == last.levels[8].num_tokens
    assert not torch.equal(last.levels[2].keys, last.levels[8].keys)


@pytest.mark.parametrize("compressor", [VST(), VST(edge_ratio=None), MeanPool()])
def test_a_level_does_not_depend_on_the_other_ratios(backbone, source, compressor):
    together = encoded(backbone, compressor, source, (2, 4, 8))
    for ratio in (2, 4, 8):
        alone = encoded(backbone, compressor, source, (ratio,))
        for one, other in zip(together, alone, strict=True):
            assert_same(one.levels[ratio], other.levels[ratio])


@pytest.mark.parametrize("compressor", [VST(edge_ratio=None), MeanPool(), Identity()])
def test_a_chunk_depends_on_earlier_chunks_and_not_on_later_ones(backbone, source, compressor):
    other = [source[0], source[2], source[1], source[3]]
    straight, swapped = (encoded(backbone, compressor, order, RATIOS) for order in (source, other))
    for ratio in RATIOS:
        levels = [(one.levels[ratio], two.levels[ratio]) for one, two in zip(straight, swapped, strict=True)]
        assert_same(*levels[0])
        assert all(not torch.equal(one.keys, two.keys) for one, two in levels[1:])


def test_vst_positions_leave_room_for_the_raw_tokens(backbone, source):
    """VST i stands behind its raw tokens, the chunk behind the VSTs that earlier chunks left."""
    first, second, *_ = encoded(backbone, VST(edge_ratio=None), source, (8,))
    start = backbone.begin().num_tokens
    assert first.levels[8].positions.flatten().tolist() == [start + 8, start + 17]
    start += first.levels[8].num_tokens
    assert second.levels[8].positions.flatten().tolist() == [start + 4, start + 13, start + 22]


def test_carry_rules_agree_where_release_is_defined(backbone, source):
    release, reset = (encoded(backbone, VST(carry=rule), source, (2, 4)) for rule in ("release", "reset"))
    for one, other in zip(release, reset, strict=True):
        assert_same(one.levels[4], other.levels[4])


def test_release_raises_where_a_chunk_has_no_vst(backbone, source):
    with pytest.raises(X2LError, match=r"compressor.carry: 'release' is undefined for 20 tokens at ratio 32"):
        encoded(backbone, VST(carry="release"), source, (32,))
    assert sizes(encoded(backbone, VST(carry="reset"), source, (32,)), 32) == [10, 1, 1, 6]


def test_with_edges_marks_the_first_and_the_last(source):
    assert [edge for _, edge in with_edges(source)] == [True, False, False, True]
    assert [edge for _, edge in with_edges(source[:2])] == [True, True]
    assert [edge for _, edge in with_edges(source[:1])] == [True]
    assert list(with_edges([])) == []


def test_levels_shrink_as_their_ratio_says(backbone, source):
    inner = encoded(backbone, VST(), source, (2, 4, 5, 10, 20))[1]
    assert [inner.levels[ratio].num_tokens for ratio in (2, 4, 5, 10, 20)] == [10, 5, 4, 2, 1]
    values = [level.values for level in inner.levels.values()]
    assert all(not torch.equal(one[..., -1, :], other[..., -1, :]) for one, other in pairwise(values))


def test_compress_alone_is_a_method(backbone, source):
    """The lower tier: keep the last token of every group."""

    class KeepLast(ChunkCompressor):
        def compress(self, kv, ratio):
            kept = slice(ratio - 1, None, ratio)
            return KV(kv.keys[..., kept, :], kv.values[..., kept, :], kv.positions[..., kept])

    full = encoded(backbone, Identity(), source, (1,))
    kept = encoded(backbone, KeepLast(), source, (4,))
    for one, other in zip(full, kept, strict=True):
        assert torch.equal(one.levels[1].keys[..., 3::4, :], other.levels[4].keys)
