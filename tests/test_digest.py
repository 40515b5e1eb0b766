"""A refactor shows identical numbers: those of the sample video, as tests/digest.json holds them."""

import json
from pathlib import Path

import pytest
from digest import digest

EXPECTED = json.loads((Path(__file__).parent / "digest.json").read_text())


@pytest.fixture(scope="module")
def computed():
    return json.loads(json.dumps(digest()))


def test_answers_and_plans_of_every_oracle_are_those_of_the_file(computed):
    assert computed["answers"].keys() == EXPECTED["answers"].keys()
    for name, answers in EXPECTED["answers"].items():
        for got, expected in zip(computed["answers"][name], answers, strict=True):
            assert got.pop("scores") == pytest.approx(expected.pop("scores"), rel=0.01, abs=1e-6)
            assert got == expected, name


def test_kvs_of_every_compressor_are_those_of_the_file(computed):
    assert computed["kvs"].keys() == EXPECTED["kvs"].keys()
    for name, levels in EXPECTED["kvs"].items():
        for ratio, expected in levels.items():
            got = computed["kvs"][name][ratio]
            assert got["tokens"] == expected["tokens"] and got["positions"] == expected["positions"]
            assert got["norms"] == pytest.approx(expected["norms"], rel=1e-4), (name, ratio)
