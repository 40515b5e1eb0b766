"""A video that is being written gives the frames that it has when it is whole."""

import io
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from video_files import shown_index, write_video

from x2l.types import X2LError
from x2l.video import follow, is_live, name_of, open_video
from x2l.video.sampling import Sampling

KINDS = {"mkv": {}, "ts": {}, "mp4": {"movflags": "frag_keyframe+empty_moov"}}


@pytest.mark.parametrize("kind", KINDS)
def test_frames_come_while_the_file_is_written(kind, tmp_path):
    whole = write_video(tmp_path / f"whole.{kind}", num_frames=60, container=KINDS[kind])
    contents = whole.read_bytes()
    growing, third = tmp_path / f"growing.{kind}", len(contents) // 3
    growing.write_bytes(contents[:third])
    frames, seen_before_its_end = [], threading.Event()

    def write():
        with growing.open("ab") as file:
            time.sleep(0.2)
            file.write(contents[third:-third])
            file.flush()
            seen_before_its_end.wait(timeout=60.0)
            file.write(contents[-third:])

    writer = threading.Thread(target=write)
    writer.start()
    for frame in follow(growing, idle_s=2.0):
        frames.append(frame)
        seen_before_its_end.set()
    writer.join()
    assert [shown_index(picture) for picture, _ in frames] == list(range(60))
    expected = next(open_video(whole, Sampling(num_frames=60)).clips([60]))
    np.testing.assert_allclose([time_s for _, time_s in frames], expected.times_s, atol=1e-6)
    pictures = np.stack([picture for picture, _ in frames])
    assert np.array_equal(pictures, expected.frames)


def test_a_pipe_is_followed_until_it_is_closed(tmp_path, monkeypatch):
    whole = write_video(tmp_path / "whole.mkv", num_frames=30)
    source = subprocess.Popen(["cat", str(whole)], stdout=subprocess.PIPE)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(source.stdout))
    assert [shown_index(picture) for picture, _ in follow("-")] == list(range(30))


def test_what_is_cut_off_is_left_out(tmp_path):
    contents = write_video(tmp_path / "whole.mkv", num_frames=60).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(contents[: len(contents) // 2])
    shown = [shown_index(picture) for picture, _ in follow(tmp_path / "cut.mkv", idle_s=0.0)]
    assert shown == list(range(len(shown))) and 5 < len(shown) < 60


def test_a_live_stream_is_followed_until_nothing_comes(tmp_path):
    contents = write_video(tmp_path / "whole.ts", num_frames=30, gop=5).read_bytes()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address, finished = free.getsockname(), threading.Event()

    def send_again_and_again():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not finished.is_set():
                for start in range(0, len(contents), 1316):
                    sender.sendto(contents[start : start + 1316], address)
                    time.sleep(0.002)

    sender = threading.Thread(target=send_again_and_again)
    sender.start()
    shown = []
    for picture, _ in follow(f"udp://127.0.0.1:{address[1]}", idle_s=1.0):
        shown.append(shown_index(picture))
        if len(shown) == 60:
            finished.set()
    sender.join()
    assert len(shown) >= 60 and set(shown) == set(range(30))
    assert is_live("udp://127.0.0.1:18762") and not is_live("http://there/video.mkv")


def test_a_web_address_is_followed_to_its_end(tmp_path):
    write_video(tmp_path / "whole.mkv", num_frames=30)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = f"http://127.0.0.1:{server.server_port}"
        assert [shown_index(picture) for picture, _ in follow(f"{there}/whole.mkv")] == list(range(30))
        with pytest.raises(X2LError, match=r"absent\.mkv: cannot be followed \(.*404"):
            next(follow(f"{there}/absent.mkv"))
        server.shutdown()
    with pytest.raises(X2LError, match=r"cannot be followed .*refused"):
        next(follow(f"{there}/whole.mkv"))


def test_an_address_is_called_by_its_end():
    assert name_of("rtsp://user:password@camera:554/door?x=1") == "door"
    assert name_of("udp://127.0.0.1:1") == "stream" and name_of("a/talk.mkv") == "talk.mkv"


def test_what_cannot_be_followed_is_named(tmp_path):
    contents = write_video(tmp_path / "whole.mp4", num_frames=30).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(contents[: len(contents) // 2])
    (tmp_path / "noise.mkv").write_bytes(bytes(range(256)) * 64)
    for name, said in (
        ("absent.mkv", "no such file"),
        ("noise.mkv", "cannot be followed, expected mkv"),
        ("cut.mp4", "cannot be followed, expected mkv"),
    ):
        with pytest.raises(X2LError, match=said) as caught:
            list(follow(tmp_path / name, idle_s=0.0))
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
