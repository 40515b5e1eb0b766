"""Tokens by a step of fixed size are those of a cache that grows, on every backbone."""

import pytest
import torch
from test_backbones import QUESTION, backbones, every_backbone, index_of  # noqa: F401, a fixture

from x2l import registry
from x2l.cache import assemble
from x2l.engine import replay
from x2l.proportional import Proportional
from x2l.types import DROPPED, Plan, X2LError

WRITING = {"max_new_tokens": 6, "eos_token_id": -1}
PLANS = (Plan((8, 1, 2)), Plan((2, DROPPED, 8)))


@pytest.fixture(scope="module")
def indexed(backbones):  # noqa: F811
    made = {}

    def of(name):
        if name not in made:
            backbone = backbones(name)
            made[name] = backbone, index_of(backbone, registry.build("compressor", "mean_pool"))
        return made[name]

    return of


@pytest.fixture
def graph_steps(monkeypatch):
    """The steps that were made."""
    made = []
    build = replay.FixedStep.__init__
    monkeypatch.setattr(
        replay.FixedStep, "__init__", lambda step, *args: (made.append(step), build(step, *args))[1]
    )
    return made


def written(backbone, index, plan, positions="original", **options):
    """The new tokens, and the cache that they leave."""
    cache = assemble(index, plan, backbone, positions)
    ids = backbone.encode_question(QUESTION)
    return backbone.generate_ids(ids, cache, **{**WRITING, **options}).tolist(), cache


@every_backbone
@pytest.mark.parametrize("beta", [0.0, 1.0])
@torch.no_grad()
def test_a_fixed_step_writes_the_tokens_of_a_growing_cache(name, beta, indexed, graph_steps, monkeypatch):
    plain, index = indexed(name)
    monkeypatch.setattr(plain, "_replays", replay.Replays())
    backbone = plain.weighing(Proportional(beta)) if beta else plain
    for positions in ("contiguous", "original"):
        for plan in PLANS:
            expected, grown = written(backbone, index, plan, positions)
            got, cache = written(backbone, index, plan, positions, decode="graph")
            assert got == expected
            assert cache.get_seq_length() == grown.get_seq_length()
            for layer, its in zip(cache.layers, grown.layers, strict=True):
                torch.testing.assert_close(layer.keys, its.keys, atol=1e-5, rtol=1e-4)
                torch.testing.assert_close(layer.values, its.values, atol=1e-5, rtol=1e-4)
            token = torch.tensor(got[-1:])
            torch.testing.assert_close(
                backbone.logits(token, cache), backbone.logits(token, grown), atol=1e-4, rtol=1e-4
            )
    assert len(graph_steps) == 1  # caches of all plans have one size


@torch.no_grad()
def test_captures_are_shared_by_size_and_bounded(indexed, graph_steps, monkeypatch):
    monkeypatch.setattr(replay, "SIZE_STEP", 8)
    backbone, index = indexed("x2l_tiny")
    monkeypatch.setattr(backbone, "_replays", replay.Replays())
    sizes = (8, 16, 24, 32)
    for num_new in (*sizes, *sizes):
        expected, _ = written(backbone, index, PLANS[0], max_new_tokens=num_new)
        assert written(backbone, index, PLANS[0], max_new_tokens=num_new, decode="graph")[0] == expected
    assert len(graph_steps) == 8 and len(backbone._replays._steps) == replay.MOST_HELD
    written(backbone, index, PLANS[0], max_new_tokens=sizes[-1], decode="graph")
    assert len(graph_steps) == 8  # the newest are there still


@torch.no_grad()
def test_weights_that_moved_are_captured_anew(indexed, graph_steps, monkeypatch):
    backbone, index = indexed("x2l_tiny")
    monkeypatch.setattr(backbone, "_replays", replay.Replays())
    written(backbone, index, PLANS[0], decode="graph")
    head = backbone.model.lm_head
    kept, head.weight = head.weight, torch.nn.Parameter(head.weight.flip(0))
    try:
        expected, _ = written(backbone, index, PLANS[0])
        assert written(backbone, index, PLANS[0], decode="graph")[0] == expected
    finally:
        head.weight = kept
    assert len(graph_steps) == 2


@torch.no_grad()
def test_a_drawn_answer_is_the_same_and_a_failure_leaves_the_model_as_it_was(indexed):
    backbone, index = indexed("x2l_tiny")
    drawn = []
    for decode in ("eager", "graph"):
        torch.manual_seed(3)
        drawn.append(written(backbone, index, PLANS[0], do_sample=True, temperature=3.0, decode=decode)[0])
    assert drawn[0] == drawn[1]

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(backbone, index, PLANS[0], decode="graph", stopping_criteria=[fail])
    assert "forward" not in vars(backbone.model)
    assert written(backbone, index, PLANS[0], decode="graph")[0] == written(backbone, index, PLANS[0])[0]


@torch.no_grad()
def test_what_was_read_before_does_not_reach_a_later_answer(indexed, monkeypatch):
    backbone, index = indexed("x2l_tiny")
    monkeypatch.setattr(backbone, "_replays", replay.Replays())
    long, ids = assemble(index, Plan((1, 1, 1)), backbone), backbone.encode_question(QUESTION)
    for layer in long.layers:
        layer.values[..., -1, :] = torch.inf
    backbone.generate_ids(ids, long, **WRITING, decode="graph")
    expected, _ = written(backbone, index, PLANS[0])
    assert written(backbone, index, PLANS[0], decode="graph")[0] == expected


def test_one_answer_is_replayed_at_a_time(indexed):
    backbone, index = indexed("x2l_tiny")
    with (
        pytest.raises(X2LError, match=r"^decode: graph writes one answer at a time"),
        backbone._replays.stepping(backbone.model, assemble(index, PLANS[0], backbone), 1),
    ):
        written(backbone, index, PLANS[0], decode="graph")
    assert "forward" not in vars(backbone.model)


def test_what_cannot_be_replayed_is_one_line(indexed, monkeypatch):
    backbone, index = indexed("x2l_tiny")
    decoder = backbone.decoder
    with monkeypatch.context() as patch:
        patch.setattr(decoder.rotary_emb, "rope_type", "dynamic")
        with pytest.raises(X2LError, match=r"^decode: graph cannot replay the rotary embedding dynamic, wh"):
            written(backbone, index, PLANS[0], decode="graph")
    with monkeypatch.context() as patch:
        patch.setattr(decoder.config, "layer_types", ["sliding_attention"] * 5)
        with pytest.raises(X2LError, match=r"^decode: graph cannot replay layers that do not attend to ev"):
            written(backbone, index, PLANS[0], decode="graph")
        patch.setattr(decoder.config, "layer_types", None)
        patch.setattr(decoder.config, "sliding_window", 8)
        with pytest.raises(X2LError, match=r"^decode: graph cannot replay layers that do not attend to ev"):
            written(backbone, index, PLANS[0], decode="graph")
    with pytest.raises(X2LError, match=r"^decode: got 'fast', expected auto, eager or graph$"):
        written(backbone, index, PLANS[0], decode="fast")
    flex = registry.build("backbone", {"name": "x2l_tiny", "attention": "flex_attention"})
    with pytest.raises(X2LError, match=r"^decode: graph cannot replay .* flex_attention, expected sdpa or"):
        written(flex, index, PLANS[0], decode="graph")
