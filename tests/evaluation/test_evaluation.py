"""An evaluation asks every row the same, resumes where it stopped, and computes its tables from its lines."""

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from models import save, tiny_backbone

from x2l.backbones.video_xl import VideoXL
from x2l.data.haystack import Haystack
from x2l.data.needles import Needles
from x2l.evaluation import bootstrap, run, summarise
from x2l.evaluation.columns import Column
from x2l.evaluation.hashes import asked_hash
from x2l.evaluation.recipe import Evaluation
from x2l.evaluation.results import Results, read
from x2l.evaluation.rows import make_rows
from x2l.evaluation.shared_video import MAX_BYTES, SharedVideo
from x2l.evaluation.summary import _chance
from x2l.needles.dataset import write_dataset
from x2l.oracles.attention import AttentionScore
from x2l.pipeline import Pipeline
from x2l.scoring import is_right
from x2l.storage.library import Indices
from x2l.types import Question, X2LError
from x2l.video import Sampling, open_video

RECIPES = Path(__file__).parents[2] / "recipes"
RECIPE = """
data: {name: folder, dir: DATA}
base:
  backbone: {name: video_xl, model: MODEL}
  ratios: [2, 8]
  chunk_frames: 2
  oracle: annotated
rows:
  uncompressed: {compressor: identity, ratios: [1], selector: constant}
  uniform 2x: {selector: {name: constant, ratio: 2}}
  gold: {selector: {name: top_k, k: 1}}
  attention: {oracle: attention, selector: {name: top_k, k: 2}}
  cosine: {oracle: {name: attention, similarity: cosine}, selector: {name: top_k, k: 2}}
"""
NUM_ROWS, NUM_VIDEOS, NUM_PER_VIDEO = 5, 3, 4


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe file over three short videos and a random tiny backbone."""
    folder = tmp_path_factory.mktemp("evaluation")
    save(tiny_backbone(), folder / "model")
    questions = {"detail": 2, "exist": 1, "count": 1}
    write_dataset(folder / "data", NUM_VIDEOS, 3, 4, size=96, seconds_per_scene=2, questions=questions)
    text = RECIPE.replace("DATA", str(folder / "data")).replace("MODEL", str(folder / "model"))
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "whole"
    run(recipe, out, progress=False)
    return out


def without_clocks(summary: dict) -> dict:
    rows = {
        name: {key: value for key, value in row.items() if not key.startswith("ttft")}
        for name, row in summary["rows"].items()
    }
    kept = {key: value for key, value in summary.items() if key not in ("date", "num_sessions")}
    return {**kept, "rows": rows}


def without_seconds(lines: list[dict]) -> list[dict]:
    clocks = ("seconds", "session")
    return [{key: value for key, value in line.items() if key not in clocks} for line in lines]


def test_every_row_is_asked_the_same(finished):
    lines = read(finished)
    assert len(lines) == NUM_ROWS * NUM_VIDEOS * NUM_PER_VIDEO
    asked = {}
    for line in lines:
        asked.setdefault(line["row"], []).append(
            (line["video"], line["question"], line["text"], line["gold"])
        )
    assert len(asked) == NUM_ROWS
    assert all(sorted(questions) == sorted(asked["gold"]) for questions in asked.values())


def test_a_line_tells_what_was_done(finished):
    line = next(x for x in read(finished) if x["row"] == "gold" and x["group"] == "detail")
    assert line["scores"] == [float(i in line["gold_chunks"]) for i in range(4)]
    assert line["detailed_chunks"] == line["gold_chunks"] and len(line["gold_chunks"]) == 1
    assert line["plan"] == [2 if i in line["gold_chunks"] else 8 for i in range(4)]
    assert line["kv_tokens_full"] == 4 * 2 * 4
    assert line["cache_reduction"] == pytest.approx(1 - line["kv_tokens"] / line["kv_tokens_full"])
    assert {"score", "assemble", "first_token", "prefill", "decode", "embed"} <= line["seconds"].keys()
    assert line["right"] == is_right(line["prediction"], Question(line["text"], answer=line["gold"]))


def test_rows_that_share_an_index_ask_what_their_own_pipeline_would_answer(recipe, finished):
    """Sharing saves a pre-fill and changes nothing."""
    evaluation = Evaluation.load(recipe)
    groups = make_rows(evaluation.rows)
    assert [[row.name for row in group] for group in groups] == [
        ["uncompressed"],
        ["uniform 2x", "gold", "attention", "cosine"],
    ]
    item = evaluation.data.open(recipe.parent, progress=False)[1]
    path, questions = item.path, item.questions
    lines = {(x["row"], x["video"], x["question"]): x for x in read(finished)}
    for row in (row for group in groups for row in group):
        own = row.pipeline.index(open_video(path, row.recipe.sampling))
        for question in questions:
            line = lines[row.name, path.name, question.id]
            asked = Question(question.text, gold_spans_s=question.gold_spans_s)
            answer = row.pipeline.ask(own, asked, max_new_tokens=4)
            assert (answer.text, list(answer.plan.ratios)) == (line["prediction"], line["plan"])


def test_each_oracle_finds_its_own_features(recipe):
    evaluation = Evaluation.load(recipe)
    groups = make_rows(evaluation.rows)
    shared = SharedVideo(evaluation.data.open(recipe.parent, progress=False)[0], groups)
    keys = {row.pipeline.oracle.key for row in groups[1] if row.name in ("attention", "cosine")}
    assert all(set(chunk.features) == keys for chunk in shared.index(groups[1]).chunks)


@pytest.fixture
def read_frames(monkeypatch) -> list[int]:
    """Frames of each chunk that a backbone reads meanwhile."""
    frames = []
    read = VideoXL.read

    def counted(self, index, clip, position):
        frames.append(len(clip.times_s))
        return read(self, index, clip, position)

    monkeypatch.setattr(VideoXL, "read", counted)
    return frames


def test_what_a_single_group_reads_is_not_held(recipe, read_frames):
    evaluation = Evaluation.load(recipe)
    alone = make_rows(evaluation.rows)[:1]
    shared = SharedVideo(evaluation.data.open(recipe.parent, progress=False)[0], alone)
    indices = [shared.index(alone[0]) for _ in range(2)]
    assert sum(read_frames) == 2 * sum(chunk.num_frames for chunk in indices[0].chunks)


@pytest.mark.parametrize(("max_bytes", "readings"), [(MAX_BYTES, 1), (1000, 2)], ids=["held", "too long"])
def test_a_video_is_read_once_for_all_rows(recipe, read_frames, max_bytes, readings):
    """What is too long to be held is read for each group; the indices are the same, seconds included."""
    evaluation = Evaluation.load(recipe)
    groups = make_rows(evaluation.rows)
    shared = SharedVideo(evaluation.data.open(recipe.parent, progress=False)[0], groups, max_bytes)
    indices = [shared.index(group) for group in groups]
    assert sum(read_frames) == readings * sum(chunk.num_frames for chunk in indices[0].chunks)
    for group, made in zip(groups, indices, strict=True):
        own = group[0].pipeline.index(evaluation.data.open(recipe.parent, progress=False)[0].open(Sampling()))
        assert made.spec.video == own.spec.video
        assert made.spec.seconds.keys() == own.spec.seconds.keys()
        for one, other in zip(made.chunks, own.chunks, strict=True):
            for ratio, kv in one.levels.items():
                assert torch.equal(kv.keys, other.levels[ratio].keys)


class Killed(BaseException):
    """What a kill does: nothing is cleaned up after it."""


@pytest.mark.parametrize("num_answers", [1, 17, 21])
def test_resumed_after_a_kill_gives_the_same(recipe, finished, tmp_path, monkeypatch, num_answers):
    """Killed while a line is written: whatever was complete is kept, the torn line is answered again."""
    append, answered = Results.append, []

    def append_or_die(self, line):
        if len(answered) == num_answers:
            self._file.write(json.dumps(line).encode()[:50])
            self._file.flush()
            raise Killed
        answered.append(line)
        append(self, line)

    with monkeypatch.context() as patch:
        patch.setattr(Results, "append", append_or_die)
        with pytest.raises(Killed):
            run(recipe, tmp_path, progress=False)
    kept = (tmp_path / "results.jsonl").read_bytes()
    assert kept.count(b"\n") == num_answers and not kept.endswith(b"\n")

    resumed = run(recipe, tmp_path, progress=False)
    assert (tmp_path / "results.jsonl").read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    assert without_seconds(read(tmp_path)) == without_seconds(read(finished))
    assert without_clocks(resumed) == without_clocks(json.loads((finished / "summary.json").read_text()))
    assert resumed["num_sessions"] == 2
    assert [line["session"] for line in read(tmp_path)] == [0] * num_answers + [1] * (
        len(read(finished)) - num_answers
    )


def test_a_process_that_is_killed_is_resumed(recipe, finished, tmp_path):
    code = f"from x2l.evaluation import run; run({str(recipe)!r}, {str(tmp_path)!r}, progress=False)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    path = tmp_path / "results.jsonl"
    while process.poll() is None and (not path.is_file() or path.read_bytes().count(b"\n") < 10):
        time.sleep(0.005)
    process.kill()
    process.wait()
    num_answers = path.read_bytes().count(b"\n")
    assert 10 <= num_answers < NUM_ROWS * NUM_VIDEOS * NUM_PER_VIDEO
    run(recipe, tmp_path, progress=False)
    assert without_seconds(read(tmp_path)) == without_seconds(read(finished))


def test_a_finished_run_indexes_nothing_again(recipe, finished, monkeypatch):
    monkeypatch.setattr(
        "x2l.evaluation.shared_video.SharedVideo.index", lambda *_: pytest.fail("a finished video is indexed")
    )
    before = (finished / "results.jsonl").read_bytes()
    num_sessions = len(json.loads((finished / "run.json").read_text())["sessions"])
    run(recipe, finished, progress=False)
    assert (finished / "results.jsonl").read_bytes() == before
    assert len(json.loads((finished / "run.json").read_text())["sessions"]) == num_sessions


def test_indices_of_an_earlier_run_are_asked(recipe, finished, tmp_path, monkeypatch):
    """Of one video, which has two indices; where there is room for one, one is there."""
    indices = Indices(tmp_path / "indices")
    run(recipe, tmp_path / "one", ["data.num=1"], progress=False, indices=indices)
    sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in indices.folder.iterdir()]
    assert len(sizes) == 2
    full = Indices(tmp_path / "full", max_bytes=max(sizes))
    run(recipe, tmp_path / "other", ["data.num=1"], progress=False, indices=full)
    assert len(list(full.folder.iterdir())) == 1
    monkeypatch.setattr(Pipeline, "index", lambda *_: pytest.fail("a video is indexed again"))
    run(recipe, tmp_path / "two", ["data.num=1"], progress=False, indices=indices)
    made, taken, expected = (
        [{key: value for key, value in line.items() if key != "seconds"} for line in read(folder)]
        for folder in (tmp_path / "one", tmp_path / "two", finished)
    )
    assert made == taken == [line for line in expected if line["video"] == made[0]["video"]]


def test_another_recipe_is_refused(recipe, finished):
    with pytest.raises(X2LError, match="holds results of another recipe_hash"):
        run(recipe, finished, ["rows.gold.selector.k=2"], progress=False)


def test_other_weights_of_an_oracle_are_refused(recipe, finished, tmp_path, monkeypatch):
    out = shutil.copytree(finished, tmp_path / "out")
    monkeypatch.setattr(AttentionScore, "identity", "others")
    with pytest.raises(X2LError, match="holds results of another oracles"):
        run(recipe, out, progress=False)


def test_videos_of_one_name_are_refused(recipe, tmp_path):
    data = shutil.copytree(recipe.parent / "data", tmp_path / "data")
    (data / "more").mkdir()
    shutil.copy(data / "videos" / "0000.mp4", data / "more" / "0000.mp4")
    records = json.loads((data / "questions.json").read_text())
    twin = {**records[0], "video": "./more/0000.mp4"}
    (data / "questions.json").write_text(json.dumps([*records, twin]))
    with pytest.raises(X2LError, match=r"2 videos are called 0000\.mp4"):
        run(recipe, tmp_path / "out", [f"data.dir={data}"], progress=False)


def asking(recipe, folder, change) -> str:
    """The override that asks changed records about the same videos."""
    shutil.copytree(recipe.parent / "data", folder / "data")
    path = folder / "data" / "questions.json"
    path.write_text(json.dumps([change(record) for record in json.loads(path.read_text())]))
    return f"data.dir={folder / 'data'}"


def without(*names: str):
    return lambda record: {name: value for name, value in record.items() if name not in names}


ONE_ROW = "rows={only: {selector: {name: constant, ratio: 2}}}"


def test_results_keep_what_still_applies(recipe, tmp_path):
    """With questions and videos taken away, changed and added: what is asked is answered once, and counts."""
    data, out = asking(recipe, tmp_path, without("id", "try")), tmp_path / "out"
    path = tmp_path / "data" / "questions.json"
    records = json.loads(path.read_text())

    def new_lines(asked: list[dict]) -> list[dict]:
        before = read(out) if out.is_dir() else []
        path.write_text(json.dumps(asked))
        summary = run(recipe, out, [ONE_ROW, data], progress=False)
        lines = read(out)
        assert summary["num_questions"]["all"] == len(asked) and lines[: len(before)] == before
        return lines[len(before) :]

    assert len(new_lines(records)) == 12
    assert new_lines(records[1:4] + records[8:]) == []
    [gone] = [line["asked"] for line in read(out) if line["text"] == records[5]["question"]]
    other = next(option for option in records[5]["options"] if option != records[5]["gt"])
    added = {"video": records[0]["video"], "question": "Is it day?", "options": ["yes", "no"], "gt": "yes"}
    answers = new_lines([added, *records[:5], records[5] | {"gt": other}, *records[6:]])
    assert [(line["text"], line["gold"]) for line in answers] == [
        ("Is it day?", "yes"),
        (records[5]["question"], other),
    ]
    right = [line["right"] for line in read(out) if line["asked"] != gone]
    mean = json.loads((out / "summary.json").read_text())["rows"]["only"]["accuracy"]["all"]["mean"]
    assert len(right) == 13 and mean == pytest.approx(np.mean(right))
    (out / "results.jsonl").write_text(json.dumps({"row": "only", "video": "a.mp4", "question": "x"}) + "\n")
    with pytest.raises(X2LError, match="holds results of an earlier version"):
        new_lines(records)


def test_broken_videos_are_passed_over_counted_and_named(recipe, tmp_path):
    """Two are missing, of one the end cannot be decoded; the fourth is measured."""
    data = asking(recipe, tmp_path, lambda record: record)
    videos, path = tmp_path / "data" / "videos", tmp_path / "data" / "questions.json"
    records = json.loads(path.read_text())
    path.write_text(json.dumps([*records, *(record | {"video": "more.mp4"} for record in records[:4])]))
    whole = (videos / "0002.mp4").read_bytes()
    start, end = whole.index(b"mdat"), whole.index(b"moov") - 4
    half = (start + end) // 2
    (videos / "0000.mp4").unlink()
    (videos / "0001.mp4").unlink()
    (videos / "more.mp4").write_bytes(whole[:half] + bytes(end - half) + whole[end:])
    out = tmp_path / "out"
    with pytest.raises(X2LError, match=r"2 of 4 videos are broken, more than max_broken_share 0.05 allows"):
        run(recipe, out, [ONE_ROW, data], progress=False)
    with pytest.warns(UserWarning, match=r"3 broken videos were passed over: 0000.*; 0001.*; more"):
        summary = run(recipe, out, [ONE_ROW, data, "max_broken_share=0.75"], progress=False)
    assert summary["num_videos"] == 1 and {line["video"] for line in read(out)} == {"0002.mp4"}
    assert [line.split(":")[0] for line in summary["broken"]] == ["0000.mp4", "0001.mp4", "more.mp4"]
    assert "3 broken videos were passed over" in (out / "table.md").read_text()


def test_what_is_not_the_fault_of_a_video_stops_an_evaluation(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("x2l.chunkers.fixed.Fixed.lengths", lambda *_: [1])
    with pytest.raises(X2LError, match=r"^chunker fixed: expected chunks of 8 frames in all"):
        run(recipe, tmp_path, [ONE_ROW, "max_broken_share=1"], progress=False)


def test_questions_without_a_right_answer_are_predicted_and_not_scored(recipe, tmp_path):
    def without_counts(record):
        return record | {"gt": None} if record["type"] == "count" else record

    data = asking(recipe, tmp_path, without_counts)
    summary = run(recipe, tmp_path / "out", [ONE_ROW, data], progress=False)
    assert summary["num_questions"] == {"detail": 6, "holistic": 3, "all": 9} and summary["num_unscored"] == 3
    lines = read(tmp_path / "out")
    unscored = [line for line in lines if line["right"] is None]
    assert [line["kind"] for line in unscored] == ["count"] * 3 and all(x["prediction"] for x in unscored)
    right = [line["right"] for line in lines if line["right"] is not None]
    assert summary["rows"]["only"]["accuracy"]["all"]["mean"] == pytest.approx(np.mean(right))
    assert "Not scored: 3 questions" in (tmp_path / "out" / "table.md").read_text()


def test_a_test_set_without_any_right_answer_is_predicted(recipe, tmp_path):
    data = asking(recipe, tmp_path, without("gt"))
    summary = run(recipe, tmp_path / "out", [ONE_ROW, data], progress=False)
    assert summary["num_unscored"] == len(read(tmp_path / "out")) == 12 and "rows" not in summary
    assert (tmp_path / "out" / "table.md").read_text().startswith("Not scored: 12 questions")


def test_a_letter_as_right_answer_is_its_option(recipe, tmp_path):
    """With options hidden and shown."""

    def by_letter(record):
        return record | {"gt": "ABCD"[record["options"].index(record["gt"])]}

    data = asking(recipe, tmp_path, by_letter)
    run(recipe, tmp_path / "letters", [ONE_ROW, data], progress=False)
    run(recipe, tmp_path / "texts", [ONE_ROW], progress=False)
    assert without_seconds(read(tmp_path / "letters")) == without_seconds(read(tmp_path / "texts"))


def test_a_right_answer_that_is_no_option_is_refused_before_any_work(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("x2l.evaluation.runner.SharedVideo", lambda *_: pytest.fail("a video is read"))
    data = asking(recipe, tmp_path, lambda record: record | {"gt": "none of these"})
    with pytest.raises(X2LError, match="record 0: question detail-0: the answer 'none of these' is none of"):
        run(recipe, tmp_path / "out", [ONE_ROW, data], progress=False)


def test_a_question_of_several_tries_counts_if_all_are_right(tmp_path):
    """VNBench's rule: by type all four orders, over all the mean of the types; a lost try cannot be right."""
    right = [[True] * 4, [True, True, True, False], [True] * 4, [True] * 3]
    made_up(tmp_path, {"a": right})
    lines = read(tmp_path)
    for line in lines:
        line["tries_at"] = "cnt-0"
        line["kind"] = line["group"] = "ret" if line["video"] == "2.mp4" else "cnt"
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = summarise(tmp_path)["rows"]["a"]
    assert row["accuracy"]["all"]["mean"] == pytest.approx(14 / 15)
    tries = row["all_tries"]
    assert tries["num_questions"] == {"cnt": 3, "ret": 1, "all": 4}
    means = {group: value["mean"] for group, value in tries["accuracy"].items()}
    assert means == {"cnt": pytest.approx(1 / 3), "ret": 1.0, "all": 0.5}
    assert tries["macro_accuracy"]["mean"] == pytest.approx(2 / 3)
    table = (tmp_path / "table.md").read_text()
    assert "| all tries right | cnt (3) | ret (1) | all (4) | mean of groups |" in table
    made_up(tmp_path, {"a": right})
    assert summarise(tmp_path)["rows"]["a"]["all_tries"] is None


def test_the_summary_comes_from_the_lines_alone(finished, tmp_path):
    for name in ("results.jsonl", "run.json"):
        shutil.copy(finished / name, tmp_path)
    summary = summarise(tmp_path)
    assert summary == json.loads((finished / "summary.json").read_text())
    assert (tmp_path / "table.md").read_text() == (finished / "table.md").read_text()


def test_the_summary_agrees_with_a_count_by_hand(finished):
    lines, summary = read(finished), summarise(finished)
    assert summary["num_videos"] == NUM_VIDEOS
    assert summary["num_questions"] == {"detail": 6, "holistic": 3, "counting": 3, "all": 12}
    assert summary["uncompressed_row"] == "uncompressed"
    for name, row in summary["rows"].items():
        own = [line for line in lines if line["row"] == name]
        assert row["accuracy"]["all"]["mean"] == pytest.approx(sum(line["right"] for line in own) / len(own))
        reductions = [line["cache_reduction"] for line in own]
        assert row["cache_reduction"]["all"] == pytest.approx(np.mean(reductions))
        details = [line["right"] for line in own if line["kind"] == "detail"]
        assert row["accuracy_by_kind"]["detail"] == pytest.approx(np.mean(details))
    assert summary["rows"]["uncompressed"]["cache_reduction"]["all"] == 0
    assert summary["rows"]["uncompressed"]["ttft_ratio"] == 1
    assert summary["rows"]["uniform 2x"]["cache_reduction"]["all"] == 0.5
    assert summary["rows"]["gold"]["recall"] == 1
    assert summary["rows"]["gold"]["oracle_recall_at"]["1"] == 1
    assert summary["rows"]["attention"]["oracle_recall_at"]["4"] == 1
    assert summary["rows"]["uniform 2x"]["recall"] is None


def made_up(out, answers: dict[str, list[list[bool]]]) -> None:
    """A run of rows whose i-th list says which questions about video i were right."""
    same = {
        "kind": "detail",
        "group": "detail",
        "gold": "1",
        "text": "?",
        "detailed_chunks": [],
        "gold_chunks": [],
    }
    costs = {
        "scores": None,
        "cache_reduction": 0.5,
        "kv_tokens": 1,
        "kv_tokens_full": 2,
        "seconds": {"score": 1.0},
    }
    lines = [
        {"row": row, "video": f"{v}.mp4", "question": f"detail-{q}", "right": right, **same, **costs}
        for row, videos in answers.items()
        for v, questions in enumerate(videos)
        for q, right in enumerate(questions)
    ]
    out.mkdir(exist_ok=True)
    (out / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_data = {"recipe_hash": "0", "questions_hash": "0", "asked_hash": "0", "backbones": {}, "oracles": {}}
    session = {"date": "", "devices": [], "versions": {}, "git": None}
    recipe = {"data": {}, "rows": {row: {} for row in answers}}
    (out / "run.json").write_text(json.dumps({**run_data, "recipe": recipe, "sessions": [session]}))


def test_times_are_compared_within_sessions(tmp_path):
    """Of rows and questions that were added later, on a machine twice as fast."""
    made_up(tmp_path, {"a": [[True, True]], "b": [[True, True]], "c": [[True, True]]})
    sessions = {"a": (0, 0), "b": (0, 1), "c": (1, 1)}  # by question
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    for line in lines:
        line["session"] = sessions[line["row"]][int(line["question"][-1])]
        line["seconds"] = {"score": {"a": 4.0, "b": 2.0, "c": 2.0}[line["row"]] / (1 + line["session"])}
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = summarise(tmp_path)["rows"]
    assert {name: row["ttft_ratio"] for name, row in rows.items()} == {"a": 1, "b": 0.5, "c": None}
    table = (tmp_path / "table.md").read_text()
    assert "TTFT only of questions answered in the same session as by a: b (1 of 2), c (0 of 2)." in table
    assert re.search(r"^\| c \| .* \| +\| +\| +\|$", table, re.M)


def test_what_stands_alone_is_not_the_best():
    assert Column("TTFT", [1.0, None], "{:.2f}x".format, min).is_best() == [False, False]
    assert Column("TTFT", [1.0, 0.5, None], "{:.2f}x".format, min).is_best() == [False, True, False]


def test_intervals_resample_videos_not_questions(tmp_path):
    """100 videos with 4 questions that are right or wrong together: as wide as 100 coins, not as 400."""
    made_up(tmp_path, {"a": [[i % 2 == 0] * 4 for i in range(100)]})
    accuracy = summarise(tmp_path)["rows"]["a"]["accuracy"]["detail"]
    low, high = accuracy["interval"]
    assert accuracy["mean"] == 0.5
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(100), rel=0.1)


def test_differences_are_paired(tmp_path):
    """Two rows that vary from video to video but always by the same: the difference is certain."""
    better = [[i % 2 == 0, True] for i in range(40)]
    worse = [[i % 2 == 0, False] for i in range(40)]
    made_up(tmp_path, {"better": better, "worse": worse})
    summary = summarise(tmp_path)
    assert summary["differences"]["better"]["worse"]["detail"] == {"mean": 0.5, "interval": [0.5, 0.5]}
    assert summary["differences"]["worse"]["better"]["detail"]["mean"] == -0.5
    low, high = summary["rows"]["better"]["accuracy"]["detail"]["interval"]
    assert low < 0.75 < high


def test_the_bootstrap_of_a_constant_and_of_coins():
    weights = bootstrap.draw(200)
    assert weights.shape == (2000, 200) and (weights.sum(axis=1) == 200).all()
    ones = np.ones(200)
    assert bootstrap.interval(bootstrap.ratios(weights, 3 * ones, 4 * ones)) == [0.75, 0.75]
    coins = (np.arange(200) < 60).astype(float)
    low, high = bootstrap.interval(bootstrap.ratios(weights, coins, ones))
    spread = 1.96 * np.sqrt(0.3 * 0.7 / 200)
    assert [low, high] == pytest.approx([0.3 - spread, 0.3 + spread], abs=0.01)
    assert (bootstrap.draw(200) == weights).all()


def test_only_questions_that_every_row_answered_count(tmp_path):
    made_up(tmp_path, {"a": [[True, False], [True, True]], "b": [[True, True]]})
    summary = summarise(tmp_path)
    assert summary["num_videos"] == 1
    assert summary["rows"]["a"]["accuracy"]["all"]["mean"] == 0.5
    made_up(tmp_path, {"a": [[True]], "b": []})
    with pytest.raises(X2LError, match="no question is answered by every row yet"):
        summarise(tmp_path)


def test_chance_is_the_most_frequent_answer_of_a_kind(finished):
    summary = summarise(finished)
    golds = [line["gold"] for line in read(finished) if line["row"] == "gold" and line["kind"] == "count"]
    assert summary["chance"]["counting"] == max(golds.count(gold) for gold in golds) / len(golds)


def test_chance_knows_that_a_question_names_its_answers(tmp_path):
    colours = ["red", "teal", "blue", "gold"]
    made_up(tmp_path, {"a": [[True, False, True, False]]})
    lines = read(tmp_path)
    for line, gold in zip(lines, colours, strict=True):
        line |= {"kind": "earlier", "gold": gold, "text": f"Which is earlier, {gold} or {colours[0]}?"}
    lines[0]["text"] = "Which is earlier, Red or blue?"
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert summarise(tmp_path)["chance"]["all"] == 0.5


def test_the_table_has_a_row_for_each_row_and_chance(finished):
    text = (finished / "table.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("|")]
    by_group = by_kind = 2 + NUM_ROWS + 1
    sizes = 2 + NUM_ROWS
    assert len(table) == by_group + by_kind + sizes + 2 + NUM_ROWS * (NUM_ROWS - 1) // 2
    assert "detail (6)" in table[0] and "[" in table[2] and table[7].startswith("| chance")
    assert len({line.count("|") for line in table[:8]}) == 1


@pytest.mark.parametrize(
    ("prediction", "gold", "options", "right"),
    [
        ("7", "7", (), True),
        (" 7.", "7", (), True),
        ("Yes, it does", "yes", (), True),
        ("crimson", "Crimson", (), True),
        ("7 7 7", "7", (), True),
        ("17", "7", (), False),
        ("", "7", (), False),
        ("no yes", "yes", (), False),
        ("the eiffel tower", "Eiffel Tower", (), False),
        ("Eiffel tower!", "Eiffel Tower", (), True),
        ("B", "7", ("3", "7"), True),
        ("(B) 7", "7", ("3", "7"), True),
        ("A", "7", ("3", "7"), False),
        ("7", "7", ("3", "7"), True),
        ("B", "7", (), False),
        ("Berlin", "Rome", ("Oslo", "Rome"), False),
        ("A dog", "cat", ("cat", "dog"), False),
        ("A cat", "cat", ("cat", "dog"), True),
        ("red car", "red", ("red", "red car"), False),
        ("red car", "red car", ("red", "red car"), True),
        ("b", "b", ("b", "a"), True),
        ("3.5", "3", (), False),
        ("-3", "3", (), False),
        ("1,000 stars", "1,000", (), True),
    ],
)
def test_right_and_wrong(prediction, gold, options, right):
    assert is_right(prediction, Question("?", answer=gold, options=options)) is right


def test_two_runs_do_not_write_one_folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    out = tmp_path / "out"
    with Results(out), pytest.raises(X2LError, match="another run is writing there"), Results(out):
        pass
    with Results(out):
        pass


def test_device_and_precision_reach_rows_with_a_backbone_of_their_own():
    table4 = Path(__file__).parents[2] / "recipes" / "table4.yaml"
    rows = Evaluation.load(table4, placed={"dtype": "bf16"}).rows
    assert {row.backbone["dtype"] for row in rows.values()} == {"bf16"}
    assert {row.backbone.get("model") for row in rows.values()} == {
        None,
        "runs/post/model",
        "runs/post_2x/model",
    }


@pytest.mark.parametrize(("num_options", "chance"), [(0, 0.25), (2, 0.5), (None, 0.25)])
def test_chance_knows_how_many_options_were_shown(num_options, chance):
    """None: results of an earlier version do not say."""
    lines = [
        {"kind": "detail", "text": "Which?", "gold": str(i), "num_options": num_options} for i in range(4)
    ]
    assert _chance(lines) == chance


@pytest.mark.parametrize(
    "data",
    [
        Needles(num=2, seed=3, chunks=4, size=32, seconds_per_scene=2),
        Haystack(num=1, seed=3, lengths=(20, 30), size=32),
    ],
)
def test_what_is_asked_is_known_without_writing_videos(data, tmp_path):
    """And tells one generator from another."""
    items = data.open(tmp_path, progress=False)
    assert asked_hash(data.asked()) == asked_hash(item.questions for item in items)
    assert asked_hash(replace(data, seed=4).asked()) != asked_hash(data.asked())


def test_a_claim_may_be_about_a_kind_of_question(tmp_path):
    made_up(tmp_path, {"a": [[True] * 4] * 3, "b": [[False] * 4] * 3})
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    for line in lines:
        line["kind"], line["group"] = ("after" if line["question"] == "detail-3" else "before"), "ordering"
        line["right"] = line["row"] == "a" and line["kind"] == "before"
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    described = json.loads((tmp_path / "run.json").read_text())
    described["recipe"]["claims"] = [
        {"say": kind, "row": "a", "group": kind, "measure": "above_chance", "at_least": -0.5}
        for kind in ("before", "after", "ordering")
    ]
    (tmp_path / "run.json").write_text(json.dumps(described))
    summary = summarise(tmp_path)
    assert [claim["value"] for claim in summary["claims"]] == [0.0, -1.0, -0.25]
    assert "| by kind | before | after |" in (tmp_path / "table.md").read_text()
    assert summary["ttft_row"] == "a" and summary["uncompressed_row"] is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "rowz={}",
            "rowz: unknown, expected one of answers, base, claims, data, figure, generation, max_broken",
        ),
        ("rows={}", "rows: expected at least one row"),
        ("rows.gold.oracel=annotated", "rows.gold.oracel: unknown, expected one of"),
        ("rows.gold.oracle=annotatd", "rows.gold.oracle 'annotatd': unknown, expected one of"),
        ("rows.gold.selector.k=three", "rows.gold.selector.k: expected int, got 'three'"),
        ("rows.gold.ratios=[2, 2]", "rows.gold.ratios: expected different positive integers"),
        ("base.chunk_frames=0", "base.chunk_frames: expected a positive integer"),
        ("base.sampling.fsp=1", "base.sampling.fsp: unknown, expected one of fps, max_frames, num_frames"),
        (
            "data.name=needels",
            "data.name 'needels': unknown, expected one of folder, haystack, llava, longvideobench,",
        ),
        ("data.num=many", "data.num: expected int, got 'many'"),
        ("data={name: needles, num: 1, seed: 1}", "data.chunks: missing, expected int"),
        ("data={name: needles, num: 1, seed: 1, chunks: 0}", "data.chunks: expected 1 or more"),
        ("data={name: needles, num: 1, seed: 1, chunks: 4, questions: {x: 1}}", "data.questions.x: expected"),
        ("generation=4", "generation: expected"),
        ("generation.max_new_token=4", "generation.max_new_token: unknown"),
        ("max_broken_share=1.5", "max_broken_share: expected a number from 0 to 1, got 1.5"),
        ("generation.max_new_tokens=0", "generation.max_new_tokens: expected 1 or more, got 0"),
        ("data.name=[needles]", "data.name ['needles']: unknown"),
        ("nonsense", "override 'nonsense': expected dotted.key=value"),
    ],
)
def test_a_bad_recipe_is_one_line_that_names_the_path(recipe, tmp_path, override, message):
    with pytest.raises(X2LError) as error:
        run(recipe, tmp_path / "out", [override], progress=False)
    assert message in str(error.value) and "recipe.yaml" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_level_that_no_index_has_names_its_row(recipe, tmp_path):
    with pytest.raises(X2LError, match=r"rows\.uniform 2x\.selector\.ratio: 4"):
        run(recipe, tmp_path, ["rows.uniform 2x.selector.ratio=4"], progress=False)


@pytest.mark.parametrize("text", ["- a list", "rows: [", ""])
def test_what_is_no_recipe_is_named(text, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(X2LError, match=r"recipe .*broken\.yaml: ") as error:
        run(path, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_a_damaged_line_is_named(finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    (out / "results.jsonl").write_text("".join([lines[0], "{half\n", *lines[2:]]))
    with pytest.raises(X2LError, match=r"results\.jsonl: line 2 is not a result"):
        summarise(out)


def test_generated_needles_with_shown_options(recipe, tmp_path):
    """Data from the recipe alone; the model sees the options and is asked nothing else."""
    data = {"name": "needles", "num": 1, "seed": 9, "chunks": 3, "size": 96, "seconds_per_scene": 1}
    data = f"data={json.dumps({**data, 'questions': {'detail': 1}})}"
    rows = "rows={only: {selector: {name: random, k: 1}}}"
    summary = run(recipe, tmp_path, [data, rows, "show_options=true"], progress=False)
    assert summary["num_questions"] == {"detail": 1, "all": 1}
    assert summary["seeds"] == {"data": 9, "bootstrap": 0}
    assert [path.name for path in (tmp_path / "data" / "videos").iterdir()] == ["0000.mp4"]


def test_the_shipped_recipe_is_sound():
    """Its numbers are those of the claim: 300 detail questions, 100 videos, 16 chunks, inner needles."""
    evaluation = Evaluation.load(RECIPES / "spine.yaml")
    assert evaluation.data.num >= 100 and evaluation.data.chunks >= 16 and evaluation.data.split == "eval"
    assert evaluation.data.num * evaluation.data.questions["detail"] >= 300
    assert evaluation.data.size >= 256 and evaluation.data.fps >= 4
    assert evaluation.data.seed != yaml.safe_load((RECIPES / "train_tiny.yaml").read_text())["seed"]
