"""Many videos: a folder becomes a library that is resumed, asked by name, and shares what is equal."""

import json
import os
import shutil
from pathlib import Path

import pytest
from models import save, tiny_backbone
from video_files import write_video

from x2l.cli import main
from x2l.pipeline import Pipeline
from x2l.storage.library import Library

NUM_FRAMES = {"a.mp4": 100, "b.mp4": 150, "deep/c.mkv": 200}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three videos, a copy of one under another name, one that is broken, and a file that is none."""
    folder = tmp_path_factory.mktemp("library")
    save(tiny_backbone(), folder / "model")
    videos = folder / "videos"
    for name, num_frames in NUM_FRAMES.items():
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(videos / name, num_frames=num_frames)
    shutil.copy(videos / "a.mp4", videos / "twin.mp4")
    (videos / "broken.mp4").write_bytes((videos / "b.mp4").read_bytes()[:200])
    (videos / "notes.txt").write_text("none")
    return folder


@pytest.fixture
def options(folder):
    model = str(folder / "model")
    return ["--backbone", "video_xl", "--set", f"backbone.model={model}", "--chunk-frames", "2", "--quiet"]


@pytest.fixture
def made(monkeypatch):
    """Names of the videos that are indexed, as they are."""
    names, index = [], Pipeline.index

    def noted(self, video, progress=False):
        names.append(video.path.name)
        return index(self, video, progress)

    monkeypatch.setattr(Pipeline, "index", noted)
    return names


def run(capsys, *args) -> tuple[int, str, str]:
    code = main([str(arg) for arg in args])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_folder_becomes_a_library_and_a_bad_file_is_named(folder, options, made, tmp_path, capsys):
    library = tmp_path / "library"
    code, _, err = run(capsys, "index", folder / "videos", "-o", library, *options)
    assert code == 0 and "1 broken videos were passed over: broken.mp4: " in err
    # Of two that are the same, one is indexed.
    assert made == ["a.mp4", "b.mp4", "c.mkv"]
    code, out, _ = run(capsys, "list", library, "--json")
    listed = json.loads(out)
    assert list(listed) == ["a.mp4", "b.mp4", "deep/c.mkv", "twin.mp4"]
    assert listed["a.mp4"]["key"] == listed["twin.mp4"]["key"] != listed["b.mp4"]["key"]
    assert len(list((library / "indices").iterdir())) == 3
    code, out, _ = run(capsys, "list", library)
    assert out.splitlines()[-1].startswith("4 videos, 3 indices, ")


def test_what_is_there_is_not_made_again(folder, options, made, tmp_path, capsys):
    videos, library = tmp_path / "videos", tmp_path / "library"
    shutil.copytree(folder / "videos", videos)
    run(capsys, "index", videos, "-o", library, *options)
    made.clear()
    run(capsys, "index", videos, "-o", library, *options)
    assert made == []
    # A changed video is; and where the time alone is new, its content tells that nothing is.
    shutil.copy(videos / "deep" / "c.mkv", videos / "b.mp4")
    os.utime(videos / "a.mp4")
    run(capsys, "index", videos, "-o", library, *options)
    assert made == []  # its content is known by another name
    assert Library(library).entry("b.mp4").key == Library(library).entry("deep/c.mkv").key
    run(capsys, "index", videos, "-o", library, *options, "--ratios", "4,8")
    assert made == ["a.mp4", "b.mp4"]
    # An index that was taken away is made again.
    made.clear()
    shutil.rmtree(library / "indices" / Library(library).entry("a.mp4").key)
    run(capsys, "index", videos, "-o", library, *options, "--ratios", "4,8")
    assert made == ["a.mp4"]


@pytest.mark.slow
def test_several_jobs_make_what_one_does(folder, options, tmp_path, capsys):
    for jobs in ("1", "2"):
        code, _, err = run(
            capsys, "index", folder / "videos", "-o", tmp_path / jobs, "--jobs", jobs, *options
        )
        assert code == 0 and "broken.mp4" in err
    one, two = (dict(Library(tmp_path / jobs).items()) for jobs in ("1", "2"))
    assert one == two


def test_a_library_is_asked_by_the_names_of_its_videos(folder, options, tmp_path, capsys):
    library, questions = tmp_path / "library", tmp_path / "questions.json"
    chosen = [*options, "--oracle", "attention", "--selector", "constant"]
    run(capsys, "index", folder / "videos", "-o", library, *chosen)
    alone = tmp_path / "alone"
    run(capsys, "index", folder / "videos" / "a.mp4", "-o", alone, *chosen)
    question, data = "How many bells appear in the video?", {}
    for name, args in {"library": [library, "--video", "twin.mp4"], "alone": [alone]}.items():
        code, out, err = run(capsys, "ask", args[0], question, *args[1:], "--json")
        assert code == 0, err
        data[name] = json.loads(out)
        data[name].pop("seconds")
    assert data["library"] == data["alone"] and data["alone"]["selector"]["name"] == "constant"
    questions.write_text(
        json.dumps([{"video": "twin.mp4", "question": question}, {"video": "a.mp4", "question": "?"}])
    )
    code, out, _ = run(capsys, "ask", library, "--video", "twin.mp4", "--questions", questions, "--json")
    assert [answer["question"] for answer in json.loads(out)["answers"]] == [question]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["ask", "LIBRARY", "What?"], "is a library, expected --video with one of its videos: a.mp4"),
        (["ask", "LIBRARY", "What?", "--video", "aa.mp4"], "did you mean 'a.mp4'?"),
        (["ask", "VIDEO", "What?", "--video", "a.mp4"], "is no library, --video is for one"),
        (["list", "VIDEOS"], "library.json: cannot be read"),
        (["index", "VIDEO", "-o", "NEW", "--jobs", "2"], "--jobs is for a folder of videos"),
        (["index", "VIDEOS", "-o", "VIDEOS"], "exists and is not an x2l library, will not write there"),
        (["index", "EMPTY", "-o", "NEW"], "holds neither videos nor pictures, expected some"),
        (["index", "BAD", "-o", "NEW"], "no video could be indexed, the first: bad.mp4"),
    ],
)
def test_what_is_wrong_is_one_line(args, said, library, folder, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.mp4").write_bytes(b"none")
    (tmp_path / "empty").mkdir()
    videos = folder / "videos"
    places = {"LIBRARY": library, "VIDEOS": videos, "VIDEO": videos / "a.mp4", "NEW": tmp_path / "new"}
    places |= {"BAD": tmp_path / "bad", "EMPTY": tmp_path / "empty"}
    code, out, err = run(capsys, *(places.get(arg, arg) for arg in args))
    assert code == 2 and not out and said in err and len(err.splitlines()) == 1


@pytest.fixture(scope="module")
def library(folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("there") / "library"
    model = f"backbone.model={folder / 'model'}"
    main(
        [
            "index",
            str(folder / "videos"),
            "-o",
            str(path),
            "--backbone",
            "video_xl",
            "--set",
            model,
            "--quiet",
        ]
    )
    return path
