"""Scores from files and from functions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models import bare_index, chunks, index_of

from x2l import registry
from x2l.compressors.identity import Identity
from x2l.oracles.callable import CallableOracle
from x2l.oracles.precomputed import Precomputed
from x2l.types import Question, X2LError

INDEX = bare_index(3, file="park.mp4")


def npz(folder: Path, **arrays) -> str:
    np.savez(folder / "scores.npz", **arrays)
    return str(folder / "scores.npz")


def jsonl(folder: Path, *lines) -> str:
    path = folder / "scores.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


def line(question: str = "colour-0", scores=(1, 0.5, -2), video: str = "park.mp4") -> dict:
    return {"video": video, "question": question, "scores": list(scores)}


@pytest.mark.parametrize("kind", ["npz", "jsonl"])
def test_scores_are_those_of_the_file(tmp_path, backbone, kind):
    """By the id of a question, and by its text where it has none."""
    if kind == "npz":
        arrays = {"park.mp4/colour-0": np.array([1, 0.5, -2]), "park.mp4/Who?": np.array([3, 2, 1])}
        path = npz(tmp_path, **arrays, **{"other.mp4/colour-0": np.zeros(7)})
    else:
        path = jsonl(tmp_path, line(), line("Who?", (3, 2, 1)), line(video="other.mp4", scores=[0] * 7))
    oracle = Precomputed(path)
    asked = oracle.score(Question("What colour?", id="colour-0"), INDEX, backbone)
    assert asked.tolist() == [1, 0.5, -2] and asked.dtype == torch.float32
    assert oracle.score(Question("Who?"), INDEX, backbone).tolist() == [3, 2, 1]


def test_what_the_file_does_not_hold_is_named(tmp_path, backbone):
    path = jsonl(tmp_path, line(scores=(1, 2)))
    with pytest.raises(X2LError) as missing:
        Precomputed(path).score(Question("?", id="count-0"), INDEX, backbone)
    assert str(missing.value) == f"oracle.path: {path}: holds no scores for 'park.mp4/count-0'"
    with pytest.raises(X2LError) as short:
        Precomputed(path).score(Question("?", id="colour-0"), INDEX, backbone)
    assert str(short.value) == f"oracle.path: {path}: 'park.mp4/colour-0': expected 3 chunks, got 2"


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda at: jsonl(at, line(), line()), "'park.mp4/colour-0' occurs twice"),
        (lambda at: jsonl(at, line(), {"video": "a", "scores": []}), "line 2.question: missing"),
        (lambda at: jsonl(at, line() | {"score": 1}), "line 1.score: unknown"),
        (lambda at: jsonl(at, line(scores=["a"])), "line 1.scores.0: expected float, got 'a'"),
        (
            lambda at: jsonl(at, line(scores=[float("nan")])),
            "'park.mp4/colour-0': expected a list of numbers",
        ),
        (lambda at: jsonl(at, "{"), "Expecting property name"),
        (lambda at: npz(at, a=np.zeros((2, 2))), "'a': expected a list of numbers, one for each chunk"),
        (lambda at: npz(at, a=np.array(["x"])), "'a': expected a list of numbers"),
        (lambda at: npz(at, a=np.array([{}])), "Object arrays cannot be loaded"),
        (lambda at: str(at / "none.npz"), "No such file"),
        (lambda at: str(at / "scores.csv"), "expected a file .npz or .jsonl"),
    ],
)
def test_a_file_that_holds_no_scores_is_one_line(tmp_path, write, reason):
    path = write(tmp_path)
    with pytest.raises(X2LError) as caught:
        registry.build("oracle", {"name": "precomputed", "path": path})
    (said,) = str(caught.value).splitlines()
    assert said.startswith(f"oracle.path: {path}: ") and reason in said


# Functions


def brightness(frames):
    assert frames.dtype == np.uint8 and frames.shape[1:] == (40, 48, 3)
    return frames.mean(axis=(1, 2, 3))


def brightest(question, index, features):
    if "bright" not in question.text:
        return None
    assert len(features) == len(index.chunks)
    return [float(by_frame.max()) for by_frame in features]


def constant(question, index, features):
    assert features == []
    return np.arange(len(index.chunks))


def test_a_function_in_code_and_by_name_are_one(backbone):
    source = chunks(backbone, ragged=True)
    given = CallableOracle(brightest, look=brightness)
    spec = registry.describe(given)
    assert spec == {
        "name": "callable",
        "function": "test_precomputed:brightest",
        "look": "test_precomputed:brightness",
    }
    named = registry.build("oracle", spec)
    index = index_of(backbone, Identity(), source, oracles=(given,))
    scores = named.score(Question("a bright card"), index, backbone)
    expected = [chunk.frames.mean(axis=(1, 2, 3)).max() for chunk in source]
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float32))
    assert named.score(Question("a dark card"), index, backbone) is None


def test_a_function_needs_not_look(backbone):
    oracle = CallableOracle("test_precomputed:constant")
    assert oracle.prepare(chunks(backbone)[0], backbone) == {}
    assert oracle.score(Question("?"), bare_index(3), backbone).tolist() == [0, 1, 2]


def test_a_function_without_a_name_works_and_is_not_found_again(backbone):
    oracle = CallableOracle(lambda question, index, features: [2.0] * len(index.chunks))
    assert oracle.score(Question("?"), bare_index(2), backbone).tolist() == [2, 2]
    with pytest.raises(X2LError, match=r"^oracle.function: .*<lambda> cannot be imported"):
        registry.build("oracle", registry.describe(oracle))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("brightest", "expected module:function, got 'brightest'"),
        ("no.such.module:f", "cannot be imported, No module named 'no'"),
        ("json:nothing", "cannot be imported, module 'json' has no attribute 'nothing'"),
        ("json:__name__", "json:__name__: expected a function, got 'json'"),
    ],
)
def test_what_is_no_function_is_one_line(function, reason):
    with pytest.raises(X2LError) as caught:
        registry.build("oracle", {"name": "callable", "function": function})
    assert str(caught.value).startswith("oracle.function: ") and reason in str(caught.value)
