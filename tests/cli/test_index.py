"""`x2l index --follow`: a video that is being written is indexed as it is when it is whole."""

import json

import pytest
from models import save, tiny_backbone
from video_files import write_video

from x2l.cli import main
from x2l.pipeline import Pipeline

QUESTION = "How many bells appear in the video?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("follow")
    save(tiny_backbone(), folder / "model")
    write_video(folder / "video.mkv", num_frames=200)
    return folder


@pytest.fixture
def options(folder):
    model = f"backbone.model={folder / 'model'}"
    return [
        "--backbone",
        "video_xl",
        "--set",
        model,
        "--chunk-frames",
        "2",
        "--selector",
        "constant",
        "--quiet",
    ]


def run(capsys, *args) -> tuple[int, str, str]:
    code = main([str(arg) for arg in args])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_it_is_asked_as_the_index_of_the_whole_video(folder, options, tmp_path, capsys):
    for name, how in {"whole": [], "followed": ["--follow", "--idle", "0"]}.items():
        code, _, err = run(capsys, "index", folder / "video.mkv", "-o", tmp_path / name, *how, *options)
        assert code == 0, err
    data = []
    for name in ("whole", "followed"):
        data.append(json.loads(run(capsys, "ask", tmp_path / name, QUESTION, "--json")[1]))
        data[-1].pop("seconds")
    assert data[0] == data[1] and len(data[0]["chunks"]) == 4
    code, out, _ = run(capsys, "check", tmp_path / "followed")
    assert code == 0 and "every tensor is what was written" in out


def test_interrupted_it_is_asked_and_goes_on(folder, options, tmp_path, capsys, monkeypatch):
    follow = ["index", folder / "video.mkv", "-o", tmp_path / "index", "--follow", "--idle", "0", *options]
    stream = Pipeline.stream

    def interrupted(*args):
        for chunk in stream(*args):
            yield chunk
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "stream", interrupted)
        for num in (1, 2):
            assert run(capsys, *follow)[0] == 130
            answer = json.loads(run(capsys, "ask", tmp_path / "index", QUESTION, "--json")[1])
            assert len(answer["chunks"]) == num
    assert run(capsys, *follow)[0] == 0
    assert json.loads(run(capsys, "check", tmp_path / "index", "--json")[1])["chunks"] == 4
    code, _, err = run(capsys, *follow)
    assert code == 2 and "is a finished index" in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["absent.mkv", "--follow"], "absent.mkv: no such file"),
        (
            ["video.mkv", "--follow", "--num-frames", "4"],
            "sampling.num_frames: spreads frames",
        ),
        (
            ["video.mkv", "--follow", "--chunk-frames", "scenes"],
            "chunk_frames: 'scenes' looks at all",
        ),
        (["video.mkv", "--follow", "--salvage"], "--follow excludes --reader and --salvage"),
        (["video.mkv", "--follow", "--jobs", "2"], "--jobs is for a folder of videos"),
    ],
)
def test_what_is_wrong_is_one_line(args, said, folder, options, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    code, out, err = run(capsys, "index", *options, *args, "-o", tmp_path / "index")
    assert code == 2 and not out and said in err and len(err.splitlines()) == 1
