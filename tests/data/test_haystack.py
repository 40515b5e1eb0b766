"""Haystacks: videos of several lengths with a needle at every depth, and accuracy by both."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from models import tiny_backbone

from x2l.data.haystack import Haystack
from x2l.evaluation import run
from x2l.evaluation.recipe import Evaluation
from x2l.evaluation.results import read
from x2l.needles.videos import HaystackVideos
from x2l.needles.world import BELL, write_script
from x2l.types import X2LError
from x2l.video import open_video

RECIPES = Path(__file__).parents[2] / "recipes"
DEPTHS = (0, 25, 50, 75, 100)
SMALL = {"seed": 3, "depths": (0, 50, 100), "size": 64, "fps": 1.0}


def content(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def videos_of(length: int, depths=DEPTHS, seed: int = 0) -> HaystackVideos:
    chunks = -(-length // 10)
    return HaystackVideos(
        seed=seed, chunks=chunks, last_scene_seconds=length - 10 * (chunks - 1), depths=depths
    )


def where(script, text: str) -> list[tuple[int, int]]:
    """(scene, digit) of every card that a question names."""
    return [
        (second // script.seconds_per_scene, card.digit)
        for second, cards in enumerate(script.cards)
        for card in cards
        if card.shape != BELL and f" {card.colour} {card.shape}" in text
    ]


@pytest.mark.parametrize("length", [1, 32, 64, 128, 512, 1024, 2048])
def test_a_needle_lies_at_every_depth_and_nowhere_else(length):
    videos = videos_of(length)
    for number in range(3):
        script, questions = videos.script(number), videos.needles(number)
        assert script.num_seconds == length
        assert [question.id for question in questions] == [f"needle-{depth}" for depth in DEPTHS]
        for question, depth in zip(questions, DEPTHS, strict=True):
            scene = round(depth / 100 * (len(script.scenes) - 1))
            assert where(script, question.text) == [(scene, int(question.answer))]
            assert script.scenes[scene].cue in question.text
            assert [other.cue for other in script.scenes].count(script.scenes[scene].cue) == 1
            assert question.gold_spans_s == (script.scenes[scene].span_s,)
            assert question.group == f"{length} frames"
            assert question.answer in question.options
        assert questions[-1].gold_spans_s[0][1] == length


def test_naming_scenes_moves_unique_pairs_and_nothing_else():
    """What a seed draws does not change: the same scenes, bells, digits, and as many unique pairs."""
    plain, named = (
        write_script(np.random.default_rng(4), 205, first_scenes=first) for first in ((), (7, 99))
    )
    assert plain.scenes == named.scenes and plain.num_bells == named.num_bells
    assert [c.digit for cards in plain.cards for c in cards] == [
        c.digit for cards in named.cards for c in cards
    ]
    assert not {7, 99} <= {scene for scene, _ in plain.unique_cards}
    assert {7, 99} <= {scene for scene, _ in named.unique_cards}
    assert max(Counter(scene for scene, _ in named.unique_cards).values()) <= 2


def test_own_frames_change_the_colours_of_other_scenes_and_nothing_else():
    plain, own = (write_script(np.random.default_rng(4), 205, own_frames=own) for own in ((), (7, 99)))
    assert plain.cards == own.cards
    changed = [i for i, pair in enumerate(zip(plain.scenes, own.scenes, strict=True)) if pair[0] != pair[1]]
    assert changed and all(
        replace(own.scenes[i], frame_colour=plain.scenes[i].frame_colour) == plain.scenes[i] for i in changed
    )
    with pytest.raises(X2LError, match="own_frames: expected fewer, there are 8 "):
        write_script(np.random.default_rng(4), 205, own_frames=range(60))


def test_no_more_scenes_are_named_than_pairs_are_unique():
    with pytest.raises(X2LError, match="first_scenes: expected at most 60, got 61"):
        write_script(np.random.default_rng(0), 99, first_scenes=range(61))


def test_equal_seeds_write_equal_videos_under_names_of_their_own(tmp_path):
    haystack = Haystack(num=2, lengths=(25, 35), **SMALL)
    items = haystack.open(tmp_path / "a", progress=False)
    assert [item.name for item in items] == ["0025-00.mp4", "0025-01.mp4", "0035-00.mp4", "0035-01.mp4"]
    assert all(len(item.questions) == 3 for item in items)
    video = open_video(items[-1].path)
    assert (video.num_frames, video.equal_parts(10)) == (35, [10, 10, 10, 5])
    haystack.open(tmp_path / "b", progress=False)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_more_videos_and_lengths_keep_what_is_there(tmp_path):
    folder = str(tmp_path / "shared")
    first = Haystack(num=1, lengths=(25,), dir=folder, **SMALL).open(tmp_path, progress=False)
    written_ns = first[0].path.stat().st_mtime_ns
    grown = Haystack(num=2, lengths=(35, 25), dir=folder, **SMALL).open(tmp_path, progress=False)
    assert [item.name for item in grown] == ["0035-00.mp4", "0035-01.mp4", "0025-00.mp4", "0025-01.mp4"]
    assert grown[2] == first[0] and first[0].path.stat().st_mtime_ns == written_ns
    assert len(Haystack(num=1, lengths=(25, 35), dir=folder, **SMALL).open(tmp_path, progress=False)) == 2
    with pytest.raises(X2LError, match=r"holds videos with depths \[0, 50, 100\], not \[0, 100\]"):
        Haystack(num=1, lengths=(25,), dir=folder, **{**SMALL, "depths": (0, 100)}).open(tmp_path, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num": 0}, "data.num: expected at least one video"),
        ({"seed": -1}, "data.seed: expected 0 or more"),
        ({"lengths": []}, "data.lengths: expected different positive integers"),
        ({"lengths": [64, 0]}, "data.lengths: expected different positive integers"),
        ({"lengths": [64, 64]}, "data.lengths: expected different positive integers"),
        ({"lengths": ["long"]}, "data.lengths.0: expected int, got 'long'"),
        ({"depths": []}, "data.depths: expected different percentages, got []"),
        ({"depths": [50, 50]}, "data.depths: expected different percentages, got [50, 50]"),
        ({"depths": [0, 101]}, "data.depths.1: expected 0..100 percent, got 101"),
        ({"depths": list(range(0, 100, 2)), "lengths": [1024]}, "data.own_frames: expected fewer"),
        ({"size": 3}, "data.size: expected an even number"),
        ({"chunks": 4}, "data.chunks: unknown, expected one of"),
    ],
)
def test_a_bad_haystack_is_one_line_that_names_the_field(changes, message):
    data = {"name": "haystack", "num": 1, "seed": 1, "lengths": [64], **changes}
    with pytest.raises(X2LError) as error:
        Evaluation.from_mapping({"data": data, "rows": {"only": {}}})
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_run_is_mapped_by_length_and_depth(tmp_path):
    backbone = tiny_backbone()
    backbone.model.save_pretrained(tmp_path / "model")
    backbone.tokenizer.save_pretrained(tmp_path / "model")
    data = {"name": "haystack", "num": 2, "lengths": [25, 35], **SMALL, "depths": [0, 50, 100]}
    mapping = {
        "data": data,
        "base": {"backbone": {"name": "video_xl", "model": str(tmp_path / "model")}, "oracle": "annotated"},
        "rows": {
            "2x": {"selector": {"name": "constant", "ratio": 2}},
            "gold": {"selector": {"name": "top_k", "k": 1}},
        },
        "figure": {"kind": "heatmap"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(mapping))
    summary = run(tmp_path / "recipe.yaml", tmp_path / "out", progress=False)
    assert summary["num_questions"] == {"25 frames": 6, "35 frames": 6, "all": 12}
    assert summary == {**summary, **json.loads((tmp_path / "out" / "summary.json").read_text())}
    lines = read(tmp_path / "out")
    for name, row in summary["rows"].items():
        for length in (25, 35):
            for depth in (0, 50, 100):
                right = [
                    line["right"]
                    for line in lines
                    if (line["row"], line["group"], line["question"])
                    == (name, f"{length} frames", f"needle-{depth}")
                ]
                assert row["accuracy_by_depth"][f"{length} frames"][str(depth)] == np.mean(right)
                assert len(right) == 2
    assert {line["kind"] for line in lines} == {"needle"}
    assert summary["rows"]["gold"]["recall_by_group"] == {"25 frames": 1, "35 frames": 1, "all": 1}
    assert {path.name for path in (tmp_path / "out").glob("heatmap.*")} == {"heatmap.png", "heatmap.svg"}


def test_the_shipped_recipe_is_sound():
    evaluation = Evaluation.load(RECIPES / "fig2.yaml")
    assert evaluation.data.lengths[-1] == 2048 and evaluation.data.depths == DEPTHS
    assert evaluation.data.split == "eval" and evaluation.data.num >= 10
