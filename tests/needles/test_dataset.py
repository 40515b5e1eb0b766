"""A folder of needle videos follows from its seed, is resumed and extended, and is read back."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor, TimeoutError

import numpy as np
import pytest

from x2l.needles.dataset import read_dataset, write_dataset
from x2l.needles.videos import NeedleVideos
from x2l.needles.world import FRAME_COLOURS
from x2l.storage.files import turn_in
from x2l.types import X2LError
from x2l.video import open_video

SMALL = {"seed": 5, "chunks": 4, "size": 96, "seconds_per_scene": 2}


def content(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("needles") / "new", 3, **SMALL)


def test_equal_seeds_give_equal_bytes(dataset, tmp_path):
    assert content(write_dataset(tmp_path / "again", 3, **SMALL)) == content(dataset)


def test_another_seed_gives_other_videos_and_questions(dataset, tmp_path):
    other = write_dataset(tmp_path / "other", 1, **{**SMALL, "seed": 6})
    assert not set(content(other).values()) & set(content(dataset).values())


def test_extended_is_written_at_once_and_keeps_its_files(dataset, tmp_path):
    folder = write_dataset(tmp_path / "grows", 1, **SMALL)
    first = folder / "videos" / "0000.mp4"
    written_ns = first.stat().st_mtime_ns
    write_dataset(folder, 3, **SMALL)
    assert first.stat().st_mtime_ns == written_ns
    assert content(folder) == content(dataset)


def test_a_dataset_never_shrinks(dataset, tmp_path):
    folder = write_dataset(tmp_path / "stays", 3, **SMALL)
    write_dataset(folder, 1, **SMALL)
    assert content(folder) == content(dataset)


def test_two_take_turns_in_one_folder(dataset, tmp_path):
    """The second knows what the first has written meanwhile."""
    folder = write_dataset(tmp_path / "shared", 1, **SMALL)
    with ThreadPoolExecutor() as pool, turn_in(folder):
        second = pool.submit(write_dataset, folder, 1, **SMALL)
        with pytest.raises(TimeoutError):
            second.result(timeout=1)
        shutil.copytree(dataset, folder, dirs_exist_ok=True)
    assert content(second.result()) == content(dataset)


def test_resumed_after_a_kill(dataset, tmp_path):
    """A kill leaves complete videos, a part of one, and a dataset.json that knows of none."""
    folder = write_dataset(tmp_path / "killed", 2, **SMALL)
    (folder / "questions.json").unlink()
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**description, "videos": {}}))
    write_dataset(folder, 3, **SMALL)
    assert content(folder) == content(dataset)


def test_a_damaged_video_is_written_again(dataset, tmp_path):
    folder = write_dataset(tmp_path / "damaged", 3, **SMALL)
    (folder / "videos" / "0001.mp4").write_bytes(b"damaged")
    write_dataset(folder, 3, **SMALL)
    assert content(folder) == content(dataset)


def test_records_are_vnbenchs_own(dataset):
    records = json.loads((dataset / "questions.json").read_text())
    kinds = set()
    for record in records:
        assert {"video", "question", "options", "gt", "type", "try"} <= set(record)
        assert 2 <= len(record["options"]) <= 4
        assert record["options"].count(record["gt"]) == 1
        assert (dataset / record["video"]).is_file()
        kinds.add(record["type"])
    assert {"detail", "before", "after", "count", "exist", "daynight"} <= kinds


def test_the_right_option_is_at_every_place(tmp_path):
    videos = NeedleVideos(seed=0, chunks=4, seconds_per_scene=2)
    questions = [q for i in range(40) for q in videos.questions(i, {"after": 1, "detail": 1})]
    places = np.bincount([question.options.index(question.answer) for question in questions], minlength=4)
    assert len(places) == 4 and min(places) > len(questions) / 8


def test_read_back_with_answers_groups_and_spans(dataset):
    items = read_dataset(dataset)
    assert [path.name for path, _ in items] == ["0000.mp4", "0001.mp4", "0002.mp4"]
    videos = NeedleVideos(**SMALL)
    counts = json.loads((dataset / "dataset.json").read_text())["questions"]
    assert [questions for _, questions in items] == [videos.questions(i, counts) for i in range(3)]
    details = [question for _, questions in items for question in questions if question.group == "detail"]
    assert len(details) == 9
    assert all(span in ((2.0, 4.0), (4.0, 6.0)) for question in details for span in question.gold_spans_s)


def test_the_file_shows_what_the_script_says(dataset):
    """Decoded at one frame per second, each frame is closest to the picture of its own second."""
    video = open_video(dataset / "videos" / "0000.mp4")
    assert (video.native_fps, video.equal_parts(2)) == (4.0, [2] * 4)
    drawn = np.stack(list(NeedleVideos(**SMALL).frames(0))[::4]).astype(float)
    decoded = np.concatenate([clip.frames for clip in video.clips()])
    distances = abs(decoded[:, None] - drawn).mean(axis=(2, 3, 4))
    assert distances.argmin(axis=1).tolist() == list(range(8))
    assert distances.diagonal().mean() < 10


def test_plain_vnbench_records_are_read(dataset, tmp_path):
    name = "inv9001_cnt_edit1.mp4"
    (tmp_path / name).write_bytes((dataset / "videos" / "0000.mp4").read_bytes())
    record = {"video": f"./VNBench/{name}", "question": "How many?", "options": [1, 2, 3, 4], "gt": 2}
    rows = [{**record, "type": "cnt_edit1", "try": number} for number in range(2)]
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    [(path, questions)] = read_dataset(tmp_path)
    assert path == tmp_path / name
    assert [question.id for question in questions] == ["cnt_edit1-0", "cnt_edit1-1"]
    assert questions[0].answer == "2" and questions[0].options == ("1", "2", "3", "4")
    assert questions[0].group == "cnt_edit1" and questions[0].gold_spans_s is None


def test_options_tell_nothing_beyond_the_kind():
    """A wrong option is as likely one answer as another: none is never drawn."""
    videos = NeedleVideos(seed=1, chunks=4, seconds_per_scene=2)
    shown = {option for i in range(40) for q in videos.questions(i, {"after": 1}) for option in q.options}
    assert shown == set(FRAME_COLOURS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num": 0}, "num: expected at least one video, got 0"),
        ({"seed": -1}, "seed: expected 0 or more"),
        ({"chunks": 0}, "chunks: expected 1 or more"),
        ({"size": 95}, "size: expected an even number"),
        ({"fps": 0.5}, "fps: expected at least 1"),
        ({"split": "test"}, "split: expected one of train, eval"),
        ({"questions": {"detale": 1}}, "questions.detale: expected one of detail"),
        ({"questions": {"detail": -1}}, "questions.detail: expected 0 or more"),
        ({"questions": {}}, "questions: expected at least one question"),
        ({"chunks": 2, "questions": {"detail": 1}}, "cannot be asked of 2 chunks"),
    ],
)
def test_bad_arguments_are_named_and_write_nothing(changes, message, tmp_path):
    with pytest.raises(X2LError, match=message) as error:
        write_dataset(tmp_path / "bad", **{"num": 1, **SMALL, **changes})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "bad").exists()


def test_other_arguments_and_other_files_are_not_mixed(dataset, tmp_path):
    with pytest.raises(X2LError, match="holds videos with seed 5, not 6"):
        write_dataset(dataset, 3, **{**SMALL, "seed": 6})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(X2LError, match="found other files"):
        write_dataset(tmp_path, 1, **SMALL)
    with pytest.raises(X2LError, match="cannot be made a folder"):
        write_dataset(tmp_path / "notes.txt" / "deeper", 1, **SMALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not JSON"),
        ("[]", "expected a JSON list of at least one question"),
        ("[1]", "record 0: expected an object"),
        ('[{"video": "a.mp4"}]', "record 0.question: missing"),
        ('[{"question": "?"}]', "record 0.video: missing"),
    ],
)
def test_bad_files_are_named(text, message, tmp_path):
    (tmp_path / "questions.json").write_text(text)
    with pytest.raises(X2LError, match=message) as error:
        read_dataset(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(X2LError, match=r"questions\.json: cannot be read"):
        read_dataset(tmp_path / "nowhere")


def test_a_url_is_none_of_the_paths(tmp_path):
    """It is quoted as it was given: as a path it would lose a slash."""
    url = "https://example.com/v.mp4"
    record = {"video": url, "question": "What?", "gt": "a", "options": ["a", "b"]}
    (tmp_path / "questions.json").write_text(json.dumps([record]))
    for folder in (tmp_path, url):
        with pytest.raises(X2LError, match=f"^{url}: is a URL, expected a path"):
            read_dataset(folder)
