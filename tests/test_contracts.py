"""What every registered method must hold; a new file in a slot's folder is tested here by being there."""

import json
import pickle
from dataclasses import fields, replace
from types import UnionType
from typing import get_args

import numpy as np
import pytest
import torch
from models import QUESTION, chunks, encoded, index_of, tiny_backbone
from specs import spec

from x2l import registry
from x2l.cache import assemble
from x2l.chunkers import make_chunker, spelling
from x2l.compressors.vst import VST
from x2l.config.fields import parameters
from x2l.data import make_data
from x2l.interfaces import Data, Oracle
from x2l.types import DROPPED, KV, Level, Question
from x2l.video import stills_of

RATIOS = (2, 8)
QUESTIONS = [QUESTION, Question("How many stars are there?", options=("one", "two"))]


def every(slot):
    return pytest.mark.parametrize("name", registry.names(slot))


@pytest.fixture(scope="module")
def source(backbone):
    return chunks(backbone, num_chunks=4, ragged=True)


def build(slot, name, backbone):
    method = registry.build(slot, spec(slot, name))
    assert registry.required(method) <= backbone.provides
    return method


@pytest.mark.parametrize("slot", ["compressor", "oracle", "selector"])
def test_every_method_is_built_by_its_own_description(slot):
    assert registry.names(slot)
    for name in registry.names(slot):
        method = registry.build(slot, spec(slot, name))
        description = json.loads(json.dumps(registry.describe(method)))
        assert description["name"] == name
        assert registry.build(slot, description) == method


@pytest.mark.parametrize("slot", list(registry.SLOTS))
def test_every_method_says_what_it_is_and_where_it_is_from(slot):
    for name in registry.names(slot):
        line, source = registry.summary(slot, name)
        assert line and source, name


PLAIN = {int: 1, str: "given", float: 1.0}


def filled(name):
    """The spec of a data with every required field, by its annotation."""
    known, _ = parameters(registry.get("data", name), name)
    return {"name": name} | {key: value_of(p.annotation) for key, p in known.items() if p.required}


def value_of(annotation):
    """A value that an annotation takes: of a union its first kind, of several one."""
    if annotation is Data:
        return filled("needles")
    if annotation in PLAIN:
        return PLAIN[annotation]
    first = value_of(get_args(annotation)[0])
    return first if isinstance(annotation, UnionType) else [first]


@every("data")
def test_data_is_built_by_its_own_description_and_pickled(name):
    data = make_data(filled(name), "data")
    description = json.loads(json.dumps(registry.describe(data)))
    assert description["name"] == name
    assert make_data(description, "data") == data == registry.build("data", description)
    assert pickle.loads(pickle.dumps(data)) == data


@every("data")
def test_smaller_variants_of_data_can_be_built(name):
    cls = registry.get("data", name)
    for changes in cls.reduced.values():
        assert changes.keys() <= {field.name for field in fields(cls)}
        make_data(filled(name) | changes, "data")


@every("compressor")
def test_a_compressor_yields_one_true_chunk_kv_per_chunk(name, backbone, source):
    chunk_kvs = encoded(backbone, build("compressor", name, backbone), source, RATIOS)
    assert len(chunk_kvs) == len(source)
    for chunk, made in zip(source, chunk_kvs, strict=True):
        assert (made.index, made.num_frames) == (chunk.index, chunk.num_frames)
        assert (made.start_s, made.end_s) == (chunk.times_s[0], chunk.times_s[-1])
        assert made.num_visual_tokens == len(chunk.visual_tokens)
        assert tuple(made.levels) == RATIOS
        for level in made.levels.values():
            assert_true_level(level, backbone, made.num_visual_tokens)


def assert_true_level(level, backbone, num_visual_tokens):
    geometry, kv = backbone.geometry, level.materialise()
    assert isinstance(level, Level) and 1 <= level.num_tokens <= num_visual_tokens
    expected = (geometry.num_layers, geometry.num_kv_heads, level.num_tokens, geometry.head_dim)
    assert kv.keys.shape == kv.values.shape == expected
    assert level.num_bytes > 0
    assert kv.positions.shape[-1] == kv.num_tokens == level.num_tokens
    assert (kv.positions.diff(dim=-1) > 0).all()
    assert kv.keys.isfinite().all() and kv.values.isfinite().all()
    assert not kv.rotated, "keys are stored before rotation on this backbone"


@every("compressor")
def test_the_bytes_of_a_level_are_those_of_its_tensors(name, backbone, source):
    for chunk in encoded(backbone, build("compressor", name, backbone), source, RATIOS):
        for level in chunk.levels.values():
            kv = level.materialise()
            assert level.num_bytes <= kv.keys.numel() * kv.keys.itemsize * 2
            if level is kv:
                assert level.num_bytes == level.num_tokens * backbone.geometry.bytes_per_token


@every("compressor")
def test_a_higher_ratio_never_keeps_more(name, backbone, source):
    for chunk in encoded(backbone, build("compressor", name, backbone), source, (1, 2, 3, 8, 32)):
        tokens = [level.num_tokens for level in chunk.levels.values()]
        assert tokens == sorted(tokens, reverse=True)


@every("compressor")
@torch.no_grad()
def test_encoding_twice_is_bitwise_equal_and_leaves_the_prefix_alone(name, backbone, source):
    compressor, prefix = build("compressor", name, backbone), backbone.begin()
    before = prefix.keys.clone(), prefix.values.clone(), prefix.positions.clone()
    runs = [tuple(compressor.encode(backbone, prefix, source, RATIOS)) for _ in range(2)]
    after = prefix.keys, prefix.values, prefix.positions
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    for one, other in zip(*runs, strict=True):
        for ratio in RATIOS:
            first, second = one.levels[ratio].materialise(), other.levels[ratio].materialise()
            assert torch.equal(first.keys, second.keys) and torch.equal(first.values, second.values)


@every("compressor")
@torch.no_grad()
def test_chunks_are_seen_behind_the_given_prefix(name, backbone, source):
    compressor, prefix = build("compressor", name, backbone), backbone.begin()
    kept = slice(3, None)
    shorter = KV(prefix.keys[..., kept, :], prefix.values[..., kept, :], prefix.positions[..., kept])
    one, other = (next(iter(compressor.encode(backbone, p, source, RATIOS))) for p in (prefix, shorter))
    for ratio in RATIOS:
        first, second = one.levels[ratio].materialise(), other.levels[ratio].materialise()
        assert not torch.equal(first.values[-1], second.values[-1])
        for kv, start in ((first, prefix.num_tokens), (second, shorter.num_tokens)):
            places = kv.positions - start  # a summary stands behind what it stands for
            assert places.min() >= 0 and places.max() < len(source[0].visual_tokens) + kv.num_tokens
        # The first layer's keys do not depend on the prefix: where they are equal, so are the tokens.
        same = (first.keys[0] == second.keys[0]).all(dim=-1)
        moved = (first.positions - second.positions).expand(-1, *first.keys.shape[:-2], -1)[:, 0]
        assert (moved[:, same] == 3).all()


@every("compressor")
@torch.no_grad()
def test_a_batch_of_videos_is_encoded_as_each_video_is(name, backbone, source):
    compressor, prefix = build("compressor", name, backbone), backbone.begin()
    videos = [source, [replace(chunk, visual_tokens=-chunk.visual_tokens) for chunk in source]]
    stacked = [
        replace(chunk, visual_tokens=torch.stack([chunk.visual_tokens, -chunk.visual_tokens]))
        for chunk in source
    ]
    batch = list(compressor.encode(backbone, prefix, stacked, RATIOS))
    for row, video in enumerate(videos):
        alone = compressor.encode(backbone, prefix, video, RATIOS)
        for together, apart, ratio in ((b, a, r) for b, a in zip(batch, alone, strict=True) for r in RATIOS):
            expected, actual = apart.levels[ratio].materialise(), together.levels[ratio].materialise()
            for one, other in ((actual.keys[row], expected.keys), (actual.values[row], expected.values)):
                # What rounds to codes may round to the neighbour of one, seldom.
                atol, most = (0.05, 0.01) if name == "packed" else (1e-4, 0)
                torch.testing.assert_close(one, other, atol=atol, rtol=1e-4)
                assert (~torch.isclose(one, other, atol=1e-4, rtol=1e-4)).float().mean() <= most


@every("compressor")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_is_the_backbones(name, dtype):
    backbone = tiny_backbone(dtype=dtype)
    made = encoded(backbone, build("compressor", name, backbone), chunks(backbone, num_chunks=2), RATIOS)
    kvs = [level.materialise() for chunk in made for level in chunk.levels.values()]
    assert {kv.keys.dtype for kv in kvs} == {kv.values.dtype for kv in kvs} == {dtype}


@every("compressor")
def test_a_compressor_looks_at_most_one_chunk_ahead(name, backbone, source):
    pulled = 0

    def feed():
        nonlocal pulled
        for chunk in source:
            pulled += 1
            yield chunk

    compressor = build("compressor", name, backbone)
    for i, made in enumerate(compressor.encode(backbone, backbone.begin(), feed(), RATIOS)):
        assert made.index == i and pulled <= i + 2


@every("compressor")
def test_gradients_reach_the_backbone_from_every_chunk(name, source):
    backbone = tiny_backbone()
    made = build("compressor", name, backbone).encode(backbone, backbone.begin(), source, RATIOS)
    embeddings = backbone.model.get_input_embeddings().weight  # of the prefix: seen through the memory
    for chunk in made:
        kvs = [level.materialise() for level in chunk.levels.values()]
        loss = sum(kv.keys.square().mean() + kv.values.square().mean() for kv in kvs)
        (gradient,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


@every("oracle")
@pytest.mark.parametrize("question", QUESTIONS, ids=["with spans", "without spans"])
@torch.no_grad()
def test_an_oracle_scores_every_chunk_or_abstains(name, question, backbone, source):
    oracle = build("oracle", name, backbone)
    index = index_of(backbone, VST(), source, RATIOS, oracles=(oracle,))
    scores, again = (oracle.score(question, index, backbone) for _ in range(2))
    if scores is None:
        assert again is None
        return
    assert scores.shape == (len(source),) and scores.isfinite().all() and scores.is_floating_point()
    assert torch.equal(scores, again)


@every("oracle")
@torch.no_grad()
def test_an_oracle_stores_what_an_index_can_keep(name, backbone, source):
    oracle = build("oracle", name, backbone)
    described = registry.describe(oracle)
    assert described.keys() >= oracle.not_prepared
    expected = {key: value for key, value in described.items() if key not in oracle.not_prepared}
    inner = {key: value for key, value in vars(oracle).items() if isinstance(value, Oracle)}
    expected |= {key: json.loads(value.key) for key, value in inner.items()}
    assert json.loads(oracle.key) == expected | ({"weights": oracle.identity} if oracle.identity else {})
    for chunk in source:
        features = oracle.prepare(chunk, backbone)
        assert all(isinstance(value, torch.Tensor) for value in features.values())


@every("oracle")
@torch.no_grad()
def test_an_oracle_leaves_the_index_alone(name, backbone, source):
    oracle = build("oracle", name, backbone)
    index = index_of(backbone, VST(), source, RATIOS, oracles=(oracle,))
    before = [level.materialise().keys.clone() for chunk in index.chunks for level in chunk.levels.values()]
    oracle.score(QUESTION, index, backbone)
    after = [level.materialise().keys for chunk in index.chunks for level in chunk.levels.values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@every("selector")
@pytest.mark.parametrize("scores", [None, torch.tensor([0.5, -1.0, 2.0, 0.5])], ids=["no scores", "scores"])
def test_a_selector_plans_every_chunk_with_ratios_of_the_index(name, scores, backbone, source):
    selector = build("selector", name, backbone)
    index = index_of(backbone, VST(), source, RATIOS)
    plan = selector.choose(scores, index)
    assert len(plan.ratios) == len(source) and set(plan.ratios) <= {*RATIOS, DROPPED}
    assert plan == selector.choose(scores, index)
    assert plan.scores == (None if scores is None else tuple(scores.tolist()))
    if not selector.uses_scores:
        assert plan.ratios == selector.choose(None, index).ratios
    assert assemble(index, plan, backbone).get_seq_length() > index.prefix.num_tokens


@every("selector")
def test_a_selector_works_on_a_single_chunk_and_a_single_ratio(name, backbone, source):
    selector = build("selector", name, backbone)
    index = index_of(backbone, VST(), source, (4,))
    assert selector.choose(torch.zeros(4), index).ratios == (4,) * 4
    alone = replace(index, chunks=index.chunks[:1])
    assert selector.choose(torch.zeros(1), alone).ratios == (4,)


@every("chunker")
@pytest.mark.parametrize("num_frames", [1, 2, 9, 23])
def test_chunks_are_the_whole_video_in_order(name, num_frames, backbone):
    """None is empty, none is left out, and the same video is cut alike again."""
    chunker = build("chunker", name, backbone)
    assert registry.build("chunker", json.loads(json.dumps(registry.describe(chunker)))) == chunker
    assert make_chunker(spelling(chunker)) == chunker
    frames = np.random.default_rng(0).integers(0, 250, (num_frames, 64, 64, 3)).astype(np.uint8)
    video = stills_of(frames, np.arange(num_frames), "noise")
    with torch.no_grad():
        lengths = chunker.lengths(video, backbone)
        assert chunker.lengths(video, backbone) == lengths
    assert sum(lengths) == num_frames and min(lengths) > 0
    if not chunker.requires:
        assert chunker.lengths(video, None) == lengths
