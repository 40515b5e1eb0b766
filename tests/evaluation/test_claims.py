"""What a claim measures and when it holds."""

from dataclasses import replace

import pytest

from x2l.evaluation.claims import Claim, judge
from x2l.evaluation.table import claims_table
from x2l.evaluation.tally import Tally
from x2l.types import X2LError

ROWS = ("good", "near", "fair", "bad")
RIGHT = {"good": 10, "near": 9, "fair": 8, "bad": 2}
"""Of ten questions about each of 20 videos."""
SURE = "above 0 with its interval"


def tally(*num_right):
    """Of ten questions about each video, so many are answered right."""
    return Tally(
        [
            {
                "video": f"{video}.mp4",
                "group": "detail",
                "question": f"detail-{question}",
                "right": question < num,
            }
            for video, num in enumerate(num_right)
            for question in range(10)
        ]
    )


TALLIES = {row: tally(*[num_right] * 20) for row, num_right in RIGHT.items()}
CHANCE = {"detail": 0.1, "all": 0.1}
GONE = {row: {"detail": 0.875, "all": 0.875} for row in ROWS}


def judged(**fields):
    return judge(Claim(say="so", group="detail", **fields), TALLIES, GONE, CHANCE)


@pytest.mark.parametrize(
    ("fields", "value", "bar", "holds"),
    [
        ({"row": "fair", "at_least": 0.8}, 0.8, "at least 0.8", True),
        ({"row": "fair", "at_least": 0.81}, 0.8, "at least 0.81", False),
        ({"row": "fair", "at_most": 0.7}, 0.8, "at most 0.7", False),
        ({"row": "good", "minus": "fair", "clearly": True}, 0.2, "clearly above 0", True),
        ({"row": "fair", "minus": "good", "clearly": True}, -0.2, "clearly above 0", False),
        ({"row": "good", "minus": "fair", "significant": True}, 0.2, SURE, True),
        ({"row": "fair", "minus": "fair", "significant": True}, 0.0, SURE, False),
        ({"row": "good", "minus": "near", "significant": True}, 0.1, SURE, True),
        ({"row": "good", "minus": "near", "clearly": True}, 0.1, "clearly above 0", False),
        (
            {"row": "good", "minus": "fair", "beyond": ("fair", "bad"), "at_most": 0.0},
            -0.4,
            "at most 0",
            True,
        ),
        (
            {"row": "fair", "minus": "bad", "beyond": ("good", "fair"), "at_least": 0.3},
            0.4,
            "at least 0.3",
            True,
        ),
        ({"row": "fair", "between": ("bad", "good"), "at_least": 0.7}, 0.75, "at least 0.7", True),
        ({"row": "fair", "measure": "above_chance", "at_least": 0.5}, 0.7, "at least 0.5", True),
        ({"row": "fair", "measure": "cache_gone", "at_least": 0.85}, 0.875, "at least 0.85", True),
    ],
)
def test_a_claim_is_held_against_its_bar(fields, value, bar, holds):
    result = judged(**fields)
    assert result["value"] == pytest.approx(value)
    assert (result["bar"], result["holds"]) == (bar, holds)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-0.0333, "-0.033"), (-0.0267, "-0.027"), (-0.03, "-0.03"), (-0.036, "-0.04"), (0.05, "0.05")],
)
def test_a_number_is_told_from_its_bar(value, shown):
    claim = {"say": "", "value": value, "interval": None, "bar": "at least -0.03, at most 0.5", "holds": True}
    assert f"| {shown} |" in claims_table([claim])[-1]


@pytest.mark.parametrize(("low", "shown"), [(0.004, "0.020 [0.004, 0.040]"), (0.0, "0.02 [0.00, 0.04]")])
def test_the_end_of_an_interval_is_told_from_its_bar(low, shown):
    claim = {"say": "", "value": 0.02, "interval": [low, 0.04], "bar": SURE, "holds": low > 0}
    assert f"| {shown} |" in claims_table([claim])[-1]


def test_equal_videos_leave_no_doubt():
    assert judged(row="fair", between=("bad", "good"), at_least=0.0)["interval"] == pytest.approx(
        [0.75, 0.75]
    )
    assert judged(row="fair", measure="cache_gone", at_least=0.0)["interval"] is None


def test_against_several_rows_the_best_of_them_counts():
    result = judged(row="fair", minus=("bad", "good"), at_least=-0.1)
    assert result["value"] == pytest.approx(-0.2) and not result["holds"]


@pytest.mark.parametrize("rows", [("bad", "bad"), ("good", "bad")])
def test_nothing_is_recovered_of_no_gap(rows):
    result = judged(row="fair", between=rows, at_least=0.0)
    assert result["value"] is None and result["interval"] is None and not result["holds"]


def haystack(group, accuracies):
    """Ten videos with a needle at each depth, found as often as `accuracies` says."""
    return [
        {
            "video": f"{group}-{i}",
            "group": group,
            "kind": "needle",
            "question": f"needle-{depth}",
            "right": i < 10 * accuracy,
        }
        for depth, accuracy in accuracies.items()
        for i in range(10)
    ]


def test_the_worst_length_and_depth_count():
    lines = haystack("64 frames", {0: 1.0, 50: 0.5}) + haystack("128 frames", {0: 0.6, 50: 0.7})
    groups, gone = ("64 frames", "128 frames"), {"row": {}}
    chance = dict.fromkeys(groups, 0.1)

    def judged(**fields):
        return judge(Claim(say="so", row="row", **fields), {"row": Tally(lines)}, gone, chance)

    assert judged(group=groups, at_least=0.7)["value"] == pytest.approx(0.65)
    assert not judged(group=groups, at_least=0.7)["holds"]
    assert judged(group=groups, at_most=0.7)["value"] == pytest.approx(0.75)
    assert judged(group=groups, at_least=0.6, at_most=0.7)["value"] == pytest.approx(0.75)
    assert judged(group=groups, at_least=0.7, at_most=0.8)["value"] == pytest.approx(0.65)
    lowest = judged(group=groups, measure="lowest_depth", at_least=0.5)
    assert lowest["value"] == 0.5 and lowest["interval"] is None and lowest["holds"]
    assert judged(group="128 frames", measure="lowest_depth", at_least=0.5)["value"] == 0.6
    assert not judged(group=(*groups, "256 frames"), at_least=0.0)["holds"]
    assert not judged(group="256 frames", measure="lowest_depth", at_least=0.0)["holds"]


def test_a_gap_that_one_video_makes_is_not_clear():
    lucky = Tally([{"video": f"{i}.mp4", "group": "detail", "right": i == 0} for i in range(5)])
    none = Tally([{"video": f"{i}.mp4", "group": "detail", "right": False} for i in range(5)])
    claim = Claim(say="so", row="lucky", minus="none", group="detail", clearly=True)
    gone = {"lucky": {"detail": 0.0}, "none": {"detail": 0.0}}
    result = judge(claim, {"lucky": lucky, "none": none}, gone, CHANCE)
    assert result["value"] == pytest.approx(0.2) and result["interval"][0] == 0 and not result["holds"]
    sure = replace(claim, clearly=False, significant=True)
    assert not judge(sure, {"lucky": lucky, "none": none}, gone, CHANCE)["holds"]


def test_how_much_wider_a_gap_became_is_told_with_the_interval_of_the_whole():
    """Both gaps differ from video to video, by the same: what lies between them is sure."""
    tallies = {
        "after": tally(2, 3, 4, 5, 6),
        "before": tally(1, 2, 3, 4, 5),
        "control": tally(1, 1, 1, 1, 1),
        "base": tally(1, 1, 1, 1, 1),
    }
    wider = Claim("so", "after", minus="control", beyond=("before", "base"), group="detail", significant=True)
    result = judge(wider, tallies, {}, CHANCE)
    assert result["value"] == pytest.approx(0.1) and result["interval"] == pytest.approx([0.1, 0.1])
    assert result["holds"]
    assert not judge(replace(wider, beyond=("after", "base")), tallies, {}, CHANCE)["holds"]


def test_the_worst_is_one_that_does_not_hold():
    """A small sure gap holds; a larger one that a single video makes does not, and is told."""
    tallies = {"all": tally(9, 9, 9, 9, 9), "near": tally(8, 8, 8, 8, 8), "one": tally(9, 9, 9, 9, 0)}
    claim = Claim("so", "all", minus=("near", "one"), group="detail", significant=True)
    result = judge(claim, tallies, {}, CHANCE)
    assert not result["holds"] and result["value"] == pytest.approx(0.18) and result["interval"][0] == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"row": "god", "at_least": 1.0},
            "claims.0.row 'god': unknown, expected one of bad, fair, good, near",
        ),
        ({"row": "good", "minus": "b", "clearly": True}, "claims.0.minus.0 'b'"),
        ({"row": "good", "between": ("bad", "x"), "at_least": 0.0}, "claims.0.between.1 'x'"),
        (
            {"row": "good", "minus": "bad", "measure": "above_chance", "at_least": 0.0},
            "claims.0: expected minus and between with accuracy, got above_chance",
        ),
        ({"row": "good"}, "claims.0: expected a bar, one of at_least, at_most, significant or clearly"),
        ({"row": "good", "minus": "bad", "beyond": ("bad", "x"), "at_least": 0.0}, "claims.0.beyond.1 'x'"),
        ({"row": "good", "beyond": ("bad", "fair"), "at_least": 0.0}, "claims.0.beyond: expected minus"),
        ({"row": "good", "significant": True}, "claims.0.significant: expected minus"),
        ({"row": "good", "minus": (), "at_least": 0.0}, "claims.0.minus: expected at least one, got none"),
        ({"row": "good", "group": (), "at_least": 0.0}, "claims.0.group: expected at least one, got none"),
        ({"row": "good", "clearly": True}, "claims.0.clearly: expected minus"),
        (
            {"row": "good", "minus": "bad", "between": ("bad", "fair"), "at_least": 0.0},
            "claims.0: expected min",
        ),
    ],
)
def test_a_claim_about_nothing_is_named(fields, message):
    with pytest.raises(X2LError) as caught:
        Claim(say="so", **fields).check("claims.0", ROWS)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("measure", ["accuracy", "above_chance", "lowest_depth", "cache_gone"])
def test_nothing_holds_of_a_group_without_questions(measure):
    claim = Claim(say="so", row="good", group="gist", measure=measure, at_least=0.0)
    result = judge(claim, TALLIES, GONE, CHANCE)
    assert result["value"] is None and result["interval"] is None and not result["holds"]
