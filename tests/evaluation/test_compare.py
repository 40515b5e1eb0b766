"""Two runs are compared on what both were asked, by hand-made answers."""

import json

import pytest

from x2l.cli import main

CALM = [[True, True], [True, False], [False, False], [False, True]]
"""Right answers about each of four videos; the first question of a video is a detail, the second a count."""


def made_up(folder, rows, videos=(0, 1, 2, 3)):
    """A run whose rows say which questions about a video were right."""
    folder.mkdir()
    asked = {f"{v}.mp4": {f"q{q}": f"{v}-{q}" for q in range(2)} for v in videos}
    (folder / "run.json").write_text(
        json.dumps({"recipe": {"rows": {name: {} for name in rows}}, "asked": asked})
    )
    lines = [
        {
            "row": row,
            "video": video,
            "question": name,
            "asked": key,
            "group": group,
            "kind": group,
            "right": right,
        }
        for row, answers in rows.items()
        for (video, keys), verdicts in zip(asked.items(), answers, strict=True)
        for (name, key), group, right in zip(keys.items(), ("detail", "count"), verdicts, strict=True)
    ]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def compared(capsys, *arguments):
    assert main(["compare", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_differences_are_paired_by_video(tmp_path, capsys):
    """Answers vary from video to video; that the second question is right everywhere is certain, by pairs."""
    one = made_up(tmp_path / "one", {"2x": [[a, False] for a, _ in CALM], "only here": CALM})
    other = made_up(tmp_path / "other", {"2x": [[a, True] for a, _ in CALM], "only there": CALM})
    result = compared(capsys, one, other)
    assert result["num_left_out"] == 0 and [row["names"] for row in result["rows"]] == [["2x", "2x"]]
    groups = result["rows"][0]["groups"]
    assert groups["count"]["difference"] == {"mean": 1.0, "interval": [1.0, 1.0]}
    assert groups["detail"]["difference"] == {"mean": 0.0, "interval": [0.0, 0.0]}
    assert groups["all"]["difference"] == {"mean": 0.5, "interval": [0.5, 0.5]}
    assert [each["mean"] for each in groups["all"]["accuracy"]] == [0.25, 0.75]
    low, high = groups["all"]["accuracy"][0]["interval"]
    assert low < 0.25 < high


def test_only_what_both_have_answered_counts_and_the_rest_is_told(tmp_path, capsys):
    """The only rows are compared whatever they are called; three videos of the one, two of them in both."""
    one = made_up(tmp_path / "one", {"a": CALM[:3]}, videos=[0, 1, 2])
    other = made_up(tmp_path / "other", {"b": [[True, True], [False, False]]}, videos=[2, 1])
    result = compared(capsys, one, other)
    assert result["rows"][0]["names"] == ["a", "b"] and result["num_left_out"] == 2
    both = result["rows"][0]["groups"]["all"]
    assert both["num_questions"] == 4
    # Of video 1, right: one and none; of video 2: none and two.
    assert both["difference"]["mean"] == pytest.approx(0.25)
    assert main(["compare", one, other]) == 0
    table = capsys.readouterr().out
    assert "| a / b | all (4) | 0.25 [" in table and "Left out: 2 questions" in table


def test_rows_are_chosen_by_name_and_what_cannot_be_compared_is_refused(tmp_path, capsys):
    one = made_up(tmp_path / "one", {"a": CALM, "b": CALM})
    other = made_up(tmp_path / "other", {"c": CALM, "d": CALM})
    elsewhere = made_up(tmp_path / "elsewhere", {"a": CALM[:1]}, videos=[9])
    assert compared(capsys, one, other, "--rows", "b", "c")["rows"][0]["names"] == ["b", "c"]
    for arguments, message in (
        ([one, other], "other: has no row of"),
        ([one, other, "--rows", "a", "x"], "other: has no answers of a row 'x', expected one of c, d"),
        ([one, elsewhere], "elsewhere: a has answered no question of a of"),
        ([one, str(tmp_path)], "run.json: cannot be read"),
    ):
        assert main(["compare", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
