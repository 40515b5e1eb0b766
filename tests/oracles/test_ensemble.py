"""Fusion of oracles whose scores are given."""

from dataclasses import dataclass

import pytest
import torch
from models import QUESTION, bare_index, index_of

from x2l import registry
from x2l.compressors.identity import Identity
from x2l.interfaces import Oracle
from x2l.oracles.attention import AttentionScore
from x2l.oracles.ensemble import Ensemble
from x2l.oracles.llm_attention import LLMAttention
from x2l.oracles.timestamp import Timestamp
from x2l.pipeline import Pipeline
from x2l.selectors.top_k import TopK
from x2l.types import Question, X2LError

INDEX = bare_index(4)


@dataclass
class Says(Oracle):
    """What it is told to."""

    scores: tuple[float, ...] | None

    def score(self, question, index, backbone):
        return None if self.scores is None else torch.tensor(self.scores)


FIRST, SECOND, NOTHING = Says((0.0, 10.0, 5.0, -10.0)), Says((3.0, 1.0, 2.0, 1.0)), Says(None)


@pytest.mark.parametrize(
    ("said", "fields", "expected"),
    [
        ([FIRST], {}, [0.5, 1, 0.75, 0]),
        ([FIRST, SECOND], {}, [1.5, 1, 1.25, 0]),
        ([FIRST, SECOND], {"shares": [1.0, 3.0]}, [3.5, 1, 2.25, 0]),
        ([FIRST, NOTHING], {"shares": [2.0, 9.0]}, [1, 2, 1.5, 0]),
        ([FIRST, Says((7.0,) * 4)], {}, [0.5, 1, 0.75, 0]),
        ([FIRST], {"fusion": "ranks"}, [1 / 63, 1 / 61, 1 / 62, 1 / 64]),
        ([FIRST, SECOND], {"fusion": "ranks"}, [1 / 63 + 1 / 61, 1 / 61 + 1 / 64, 2 / 62, 2 / 64]),
        ([NOTHING, SECOND], {"fusion": "ranks", "shares": [1.0, 2.0]}, [2 / 61, 2 / 64, 2 / 62, 2 / 64]),
    ],
)
def test_what_is_said_is_added_up(said, fields, expected, backbone):
    scores = Ensemble(said, **fields).score(QUESTION, INDEX, backbone)
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("fusion", ["scores", "ranks"])
def test_it_abstains_where_all_do(fusion, backbone):
    assert Ensemble([NOTHING, NOTHING], fusion=fusion).score(QUESTION, INDEX, backbone) is None


@pytest.mark.parametrize("bad", [(1.0, 2.0), (1.0, 2.0, float("nan"), 0.0)])
@pytest.mark.parametrize("fusion", ["scores", "ranks"])
def test_an_oracle_that_errs_is_named(bad, fusion, backbone):
    with pytest.raises(X2LError, match=r"^oracle test_ensemble:Says: .*score"):
        Ensemble([FIRST, Says(bad)], fusion=fusion).score(QUESTION, INDEX, backbone)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"oracles": []}, "oracle.oracles: expected at least one, got []"),
        ({"shares": [1.0]}, "oracle.shares: expected 2 numbers, 0 or more, got [1.0]"),
        ({"shares": [1.0, -1.0]}, "oracle.shares: expected 2 numbers, 0 or more, got [1.0, -1.0]"),
    ],
)
def test_a_wrong_field_is_one_line(fields, message):
    with pytest.raises(X2LError) as caught:
        registry.build("oracle", {"name": "ensemble"} | fields)
    assert str(caught.value) == message


def test_by_default_a_time_comes_before_likeness(backbone):
    """Chunks of 5 s: the third holds 0:12, and without a time the default oracle decides alone."""
    oracle = registry.build("oracle", "ensemble")
    index = index_of(backbone, Identity(), oracles=(oracle,))
    alone = AttentionScore().score(Question("Which star?"), index, backbone)
    together = oracle.score(Question("Which star?"), index, backbone)
    assert together.argsort().tolist() == alone.argsort().tolist()
    timed = oracle.score(Question("Which star at 0:12?"), index, backbone)
    assert timed.argmax() == 2 and Timestamp().score(Question("at 0:12"), index, backbone).argmax() == 2


def test_each_oracle_stores_its_features_and_brings_its_needs(backbone, monkeypatch):
    oracle = Ensemble([AttentionScore("cosine"), LLMAttention(), FIRST])
    pipeline = Pipeline(backbone, Identity(), oracle, TopK(1), ratios=(1,))
    index = index_of(backbone, Identity(), ratios=(1,), oracles=(AttentionScore("cosine"),))
    assert len(pipeline.plan(QUESTION, index).scores) == 4
    with pytest.raises(X2LError, match="the index holds no features for it"):
        pipeline.plan(QUESTION, index_of(backbone, Identity(), ratios=(1,)))
    monkeypatch.setattr(type(backbone), "provides", frozenset())
    with pytest.raises(X2LError, match=r"^oracle llm_attention: needs attention"):
        Pipeline(backbone, Identity(), oracle, TopK(1), ratios=(1,))
