"""Video files: exact frames and times from both readers, bounded memory, one clear line for bad files."""

from __future__ import annotations

import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from video_files import (
    HEIGHT,
    REALTIME,
    WIDTH,
    cut_short,
    flipped,
    remuxed,
    rotated,
    scratched,
    shown_index,
    stored_packets,
    trimmed,
    write_audio,
    write_video,
)

from x2l.errors import X2LError
from x2l.video import Sampling, open_video
from x2l.video.pyav_reader import PyAVReader
from x2l.video.scan import scan

EVERY_FRAME = Sampling(fps=1000.0, max_frames=None)
VFR_MS = np.cumsum(np.random.default_rng(0).integers(11, 120, 60)).tolist()


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, Path]:
    """One file of each kind, 60 frames each."""
    folder = tmp_path_factory.mktemp("videos")
    open_gop = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0:keyint=12"}
    made = {
        "h264": write_video(folder / "h264.mp4"),
        "one_gop": write_video(folder / "one_gop.mp4", gop=600, options={"x264-params": "scenecut=0"}),
        "mkv": write_video(folder / "h264.mkv"),
        "vp9": write_video(folder / "vp9.webm", "libvpx-vp9", options=REALTIME),
        "vp8": write_video(folder / "vp8.webm", "libvpx", options=REALTIME),
        "vfr": write_video(folder / "vfr.mp4", times_ms=VFR_MS),
        "vfr_webm": write_video(folder / "vfr.webm", "libvpx-vp9", times_ms=VFR_MS, options=REALTIME),
        "open_gop": write_video(folder / "open_gop.mp4", options=open_gop),
        "ts": write_video(folder / "stream.ts"),
        "avi": write_video(folder / "mpeg4.avi", "mpeg4"),
        "avi_b": write_video(folder / "h264.avi", options={"bf": "3"}),
        "asf_b": write_video(folder / "h264.asf", options={"bf": "3"}),
        "faststart": write_video(
            folder / "fast.mp4",
            options={"x264-params": "scenecut=0"},
            container={"movflags": "faststart"},
            seed=0,
        ),
    }
    made["avi_in_mp4"] = remuxed(made["avi_b"], folder / "copied.mp4")
    made["trimmed"] = trimmed(made["h264"], folder / "trimmed.mp4", num_frames=10)
    for degrees in (90, 180, 270):
        made[f"turned_{degrees}"] = rotated(made["h264"], folder / f"turned_{degrees}.mp4", degrees)
    return made


PLAIN = ["h264", "one_gop", "mkv", "vp9", "vp8", "vfr", "vfr_webm"]
UNORDERED = ["avi_b", "asf_b", "avi_in_mp4"]
"""H.264 with B-frames where the container does not tell when a picture is shown, so that FFmpeg guesses."""
ONLY_PYAV = ["open_gop", "ts", "avi", "trimmed", *UNORDERED]


def shown(video) -> list[int]:
    return [shown_index(frame) for clip in video.clips() for frame in clip.frames]


@pytest.mark.parametrize("reader", ["decord", "pyav"])
@pytest.mark.parametrize("name", PLAIN)
def test_every_frame_is_the_right_one(files, name, reader):
    assert shown(open_video(files[name], EVERY_FRAME, reader)) == list(range(60))


@pytest.mark.parametrize("reader", ["decord", "pyav"])
@pytest.mark.parametrize("name", PLAIN)
def test_sparse_frames_are_the_right_ones(files, name, reader):
    expected = np.linspace(0, 59, 7).astype(int).tolist()
    assert shown(open_video(files[name], Sampling(num_frames=7), reader)) == expected


@pytest.mark.parametrize("name", ONLY_PYAV)
def test_pyav_reads_what_decord_would_read_wrong(files, name):
    video = open_video(files[name], EVERY_FRAME)
    assert video.reader == "pyav"
    assert shown(video) == list(range(10 if name == "trimmed" else 0, 60))
    sparse = open_video(files[name], Sampling(num_frames=6))
    assert shown(sparse) == [shown(video)[i] for i in np.linspace(0, video.num_frames - 1, 6).astype(int)]
    with pytest.raises(X2LError, match=r"reader decord .*, expected reader auto or pyav"):
        open_video(files[name], reader="decord")


@pytest.mark.parametrize("name", PLAIN + ONLY_PYAV)
def test_pyav_reads_in_any_order(files, name):
    scanned = scan(files[name])
    first = 60 - len(scanned.pts)
    order = np.random.default_rng(1).integers(0, len(scanned.pts), 40)
    assert [shown_index(f) for f in PyAVReader(scanned).read(order)] == (order + first).tolist()


@pytest.mark.parametrize("name", ["h264", "vp9", "turned_90"])
def test_the_readers_agree_on_pixels(files, name):
    clips = [open_video(files[name], Sampling(num_frames=9), reader).clips() for reader in ("decord", "pyav")]
    for by_decord, by_pyav in zip(*clips, strict=True):
        difference = by_decord.frames.astype(int) - by_pyav.frames
        assert np.abs(difference).max() <= 2
        np.testing.assert_array_equal(by_decord.times_s, by_pyav.times_s)


@pytest.mark.parametrize("reader", ["decord", "pyav"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_honoured(files, degrees, reader):
    video = open_video(files[f"turned_{degrees}"], Sampling(num_frames=5), reader)
    sides = (WIDTH, HEIGHT) if degrees == 180 else (HEIGHT, WIDTH)
    assert (video.width, video.height) == sides
    (clip,) = video.clips()
    turned_back = [np.rot90(frame, -degrees // 90) for frame in clip.frames]
    assert [shown_index(frame) for frame in turned_back] == [0, 14, 29, 44, 59]


@pytest.mark.parametrize("name", ["vfr", "vfr_webm"])
@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_variable_frame_rate_has_its_own_times(files, name, reader):
    video = open_video(files[name], EVERY_FRAME, reader)
    expected = (np.array(VFR_MS) - VFR_MS[0]) / 1000
    np.testing.assert_allclose(video.times_s, expected, atol=1e-3)
    by_second = open_video(files[name], Sampling(fps=2.0), reader)
    first_after = [int(np.argmax(expected >= t)) for t in np.arange(0, expected[-1], 0.5)]
    assert shown(by_second) == first_after


@pytest.mark.parametrize("name", [*PLAIN, *ONLY_PYAV])
def test_times_start_at_zero_and_frame_rate_is_the_mean_one(files, name):
    video = open_video(files[name], EVERY_FRAME)
    assert video.times_s[0] == 0
    if "vfr" not in name:
        np.testing.assert_allclose(video.times_s, np.arange(video.num_frames) / 25, atol=1e-3)
        assert video.native_fps == pytest.approx(25, rel=1e-3)
        assert video.duration_s == pytest.approx(video.num_frames / 25, rel=1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_the_last_picture_of_a_slide_show_lasts_as_long_as_the_file_says(tmp_path, suffix):
    source = write_video(tmp_path / "short.mp4", "mpeg4", num_frames=3, times_ms=[0, 5000, 9000])
    ticks = stored_packets(source)[1][2]
    slides = remuxed(source, tmp_path / f"slides.{suffix}", {2: {"duration": 4 * ticks}})
    video = open_video(slides)
    np.testing.assert_allclose(video.times_s, [0, 5, 9], atol=1e-3)
    assert video.duration_s == pytest.approx(29, abs=1e-3)


def test_default_sampling_is_one_frame_a_second(files):
    video = open_video(files["h264"])
    assert shown(video) == [0, 25, 50]
    assert video.times_s.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(fps=10.0), [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]),
        (Sampling(fps=1e12), list(range(25))),
        (Sampling(fps=25.0, max_frames=4), [0, 8, 16, 24]),
        (Sampling(num_frames=3), [0, 12, 24]),
        (Sampling(num_frames=1), [0]),
    ],
)
def test_sampling(sampling, expected):
    assert sampling.indices(np.arange(25) / 25).tolist() == expected


@pytest.mark.parametrize("num_frames", [59, 60, 61, 10**7])
def test_no_frame_is_looked_at_twice(files, num_frames):
    video = open_video(files["h264"], Sampling(num_frames=num_frames))
    assert video.num_frames == min(num_frames, 60) == len(set(shown(video)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_frames": 0}, "sampling.num_frames: expected .* got 0"),
        ({"fps": -1.0}, "sampling.fps: expected .* got -1"),
        ({"fps": float("nan")}, "sampling.fps: expected .* got nan"),
        ({"max_frames": 0}, "sampling.max_frames: expected .* got 0"),
        ({"fps": None}, "expected num_frames or fps"),
        ({"picture_fps": 0.0}, "sampling.picture_fps: expected .* got 0.0"),
    ],
)
def test_bad_sampling(fields, message):
    with pytest.raises(X2LError, match=message):
        Sampling(**fields)


def test_a_sampling_without_a_rate_of_pictures_is_as_older_indices_hold_it():
    assert Sampling(fps=2.0).to_mapping() == {"num_frames": None, "fps": 2.0, "max_frames": 2048}
    assert Sampling(picture_fps=2.0).to_mapping()["picture_fps"] == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reader": "decrod"}, "did you mean 'decord'"),
        ({"reader": "decord", "salvage": True}, "cannot salvage"),
    ],
)
def test_bad_options(files, options, message):
    with pytest.raises(X2LError, match=message):
        open_video(files["h264"], **options)


def test_clips_are_chunks_with_a_ragged_last_one(files):
    video = open_video(files["h264"], Sampling(num_frames=23))
    sizes = [clip.frames.shape for clip in video.clips()]
    assert sizes == [(10, HEIGHT, WIDTH, 3), (10, HEIGHT, WIDTH, 3), (3, HEIGHT, WIDTH, 3)]
    assert video.equal_parts(10) == [10, 10, 3]
    cut = [1, 15, 7]
    assert [len(clip.frames) for clip in video.clips(cut)] == cut
    assert [clip.first_frame for clip in video.clips(cut)] == [0, 1, 16]
    assert shown(video) == shown(video), "clips() starts again from the first frame"


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_only_the_clip_in_hand_is_alive(files, reader):
    alive: list[weakref.ref] = []
    video = open_video(files["h264"], EVERY_FRAME, reader)
    for clip in video.clips(video.equal_parts(5)):
        alive.append(weakref.ref(clip.frames))
        del clip
        gc.collect()
        assert sum(frames() is not None for frames in alive) <= 1
    assert len(alive) == 12


def count_conversions(monkeypatch) -> list[int]:
    converted: list[int] = []
    rgb = PyAVReader._rgb
    monkeypatch.setattr(PyAVReader, "_rgb", lambda self, frame: converted.append(1) or rgb(self, frame))
    return converted


def count_decoded(monkeypatch) -> list[int]:
    decoded: list[int] = []
    advance = PyAVReader._advance
    monkeypatch.setattr(PyAVReader, "_advance", lambda self: decoded.append(1) or advance(self))
    return decoded


def test_frames_are_decoded_when_asked_for(files, monkeypatch):
    converted, decoded = count_conversions(monkeypatch), count_decoded(monkeypatch)
    clips = open_video(files["h264"], EVERY_FRAME, "pyav").clips([5])
    next(clips)
    assert len(converted) == 5
    assert len(decoded) <= 6


def test_sparse_frames_are_sought(files, monkeypatch):
    decoded = count_decoded(monkeypatch)
    shown(open_video(files["h264"], Sampling(num_frames=2), "pyav"))
    assert len(decoded) <= 14, "the first frame, then at most one group of 12 pictures"


def test_decord_is_needed_for_the_reader_decord_alone(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    assert shown(open_video(files["h264"])) == [0, 25, 50]
    with pytest.raises(X2LError, match="decord is not installed"):
        open_video(files["h264"], reader="decord")


def test_fingerprint_tells_files_and_samplings_apart(files):
    first = open_video(files["h264"]).fingerprint()
    assert first["file"] == "h264.mp4" and first["bytes"] == files["h264"].stat().st_size
    assert (first["reader"], first["num_frames"]) == ("pyav", 3)
    assert first == open_video(files["h264"]).fingerprint()
    assert first["sampling"] != open_video(files["h264"], Sampling(fps=2.0)).fingerprint()["sampling"]
    assert first["sha256"] != open_video(files["one_gop"]).fingerprint()["sha256"]


def bad_files(files: dict[str, Path], folder: Path) -> dict[str, tuple[Path, str]]:
    folder.joinpath("zero.mp4").touch()
    folder.joinpath("text.mp4").write_text("hello\n" * 100)
    folder.joinpath("notes.txt").write_text("hello\n" * 100)
    return {
        "missing": (folder / "none.mp4", "no such file"),
        "directory": (folder, "is a directory"),
        "zero": (folder / "zero.mp4", "0 bytes"),
        "text": (folder / "text.mp4", "not a video file"),
        "txt": (folder / "notes.txt", "not a video file"),
        "audio": (write_audio(folder / "audio.mp4"), "no video stream, only audio"),
        "no_index": (cut_short(files["h264"], folder / "no_index.mp4"), "truncated .*index"),
        "truncated": (cut_short(files["faststart"], folder / "cut.mp4"), "truncated .*--salvage"),
        "truncated_webm": (cut_short(files["vp9"], folder / "cut.webm"), "truncated .*--salvage"),
        "raw": (write_video(folder / "raw.h264"), "no timestamps"),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "directory",
        "zero",
        "text",
        "txt",
        "audio",
        "no_index",
        "truncated",
        "truncated_webm",
        "raw",
    ],
)
@pytest.mark.parametrize("reader", ["auto", "decord", "pyav"])
def test_a_bad_file_is_one_line_that_names_it(files, tmp_path, kind, reader):
    path, message = bad_files(files, tmp_path)[kind]
    with pytest.raises(X2LError, match=message) as caught:
        open_video(path, reader=reader)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", ["auto", "decord"])
@pytest.mark.parametrize("packet", [41, 46, 51])
def test_flipped_bits_are_refused_whichever_reader(files, tmp_path, packet, reader):
    video = open_video(flipped(files["faststart"], tmp_path / "bad.mp4", packet), EVERY_FRAME, reader)
    with pytest.raises(X2LError, match=r"bad\.mp4: truncated or corrupted; --salvage") as caught:
        shown(video)
    assert "\n" not in str(caught.value)


def test_damage_is_seen_each_time(files, tmp_path):
    broken = [flipped(files["faststart"], tmp_path / f"{packet}.mp4", packet) for packet in range(24, 60, 2)]

    def verdict(path: Path) -> bool:
        try:
            shown(open_video(path, EVERY_FRAME))
        except X2LError:
            return True
        return False

    alone = [verdict(path) for path in broken]
    assert sum(alone) >= len(broken) // 2
    with ThreadPoolExecutor(8) as crowd:
        assert list(crowd.map(verdict, broken * 3)) == alone * 3


def test_a_frame_is_refused_where_it_is_made_from_a_broken_one_that_is_shown_after_it(files, tmp_path):
    assert [pts // 512 for _, _, pts in stored_packets(files["faststart"])][41:43] == [44, 42]
    reader = PyAVReader(scan(flipped(files["faststart"], tmp_path / "bad.mp4", packet=41)))
    assert shown_index(reader.read(np.array([40]))[0]) == 40
    with pytest.raises(X2LError, match="corrupted"):
        reader.read(np.array([41]))


def test_timestamps_that_contradict_the_order_of_frames_late_are_refused(files, tmp_path):
    first, second = [pts for _, _, pts in stored_packets(files["one_gop"])][50:52]
    path = remuxed(files["one_gop"], tmp_path / "bad.mp4", {50: {"pts": second}, 51: {"pts": first}})
    video = open_video(path, EVERY_FRAME)
    with pytest.raises(X2LError, match=r"bad\.mp4: (truncated|its timestamps are not)"):
        shown(video)


def test_a_recording_that_starts_in_the_middle_of_a_group_of_pictures(files, tmp_path):
    data = files["ts"].read_bytes()
    (tmp_path / "late.ts").write_bytes(data[len(data) // 188 // 3 * 188 :])
    video = open_video(tmp_path / "late.ts", EVERY_FRAME)
    indices = shown(video)
    assert indices == list(range(indices[0], 60)) and 10 < indices[0] < 40
    np.testing.assert_allclose(video.times_s, np.arange(len(indices)) / 25, atol=1e-3)


def test_a_file_without_its_first_keyframe_is_refused(files, tmp_path):
    path = remuxed(files["avi"], tmp_path / "late.avi", data={0: None})
    with pytest.raises(X2LError, match=r"late\.avi: truncated or corrupted"):
        open_video(path)
    rest = open_video(path, EVERY_FRAME, salvage=True)
    assert shown(rest) == list(range(12, 60)) and rest.lost == 11


def test_joined_recordings_are_refused(files, tmp_path):
    (tmp_path / "joined.ts").write_bytes(2 * files["ts"].read_bytes())
    with pytest.raises(X2LError, match=r"joined\.ts: truncated or corrupted"):
        open_video(tmp_path / "joined.ts")


def test_a_picture_that_an_old_codec_skips_stays_on_the_screen(files, tmp_path):
    not_coded = {21: "5acf", 22: "5b4f", 23: "5bcf"}
    packets = {index: bytes.fromhex(f"000001b6{code}") for index, code in not_coded.items()}
    path = remuxed(files["avi"], tmp_path / "skips.avi", data=packets)
    expected = [20 if index in not_coded else index for index in range(60)]
    assert shown(open_video(path, EVERY_FRAME)) == expected
    assert open_video(path, EVERY_FRAME, salvage=True).lost == 0


def test_salvage_uses_what_can_be_decoded(files, tmp_path):
    one_group = range(24, 36)
    video = open_video(
        scratched(files["faststart"], tmp_path / "bad.mp4", one_group), EVERY_FRAME, salvage=True
    )
    left = [index for index in range(60) if index not in one_group]
    assert shown(video) == left
    np.testing.assert_allclose(video.times_s, np.array(left) / 25, atol=1e-3)
    assert (video.lost, video.lost_share, video.fingerprint()["lost"]) == (12, 0.2, 12)


def test_salvage_leaves_out_what_is_made_from_lost_frames(files, tmp_path):
    path = flipped(files["faststart"], tmp_path / "bad.mp4", packet=30)
    video = open_video(path, EVERY_FRAME, salvage=True)
    lost = {pts // 512 for _, _, pts in stored_packets(files["faststart"])[30:36]}
    assert video.lost == 6 and shown(video) == [index for index in range(60) if index not in lost]
    whole = open_video(files["faststart"], EVERY_FRAME)
    frames, pristine = (np.concatenate([clip.frames for clip in v.clips()]) for v in (video, whole))
    np.testing.assert_array_equal(frames, np.delete(pristine, sorted(lost), axis=0))


def test_salvaged_frames_keep_their_times(files, tmp_path):
    path = scratched(files["faststart"], tmp_path / "bad.mp4", range(12))
    video = open_video(path, EVERY_FRAME, salvage=True)
    np.testing.assert_allclose(video.times_s, np.arange(12, 60) / 25, atol=1e-3)


@pytest.mark.parametrize(("name", "suffix"), [("faststart", "mp4"), ("vp9", "webm")])
def test_salvage_of_a_truncated_file(files, tmp_path, name, suffix):
    video = open_video(cut_short(files[name], tmp_path / f"cut.{suffix}"), EVERY_FRAME, salvage=True)
    indices = shown(video)
    # Of the last group of pictures, those between two that are left may be missing.
    assert indices[:25] == list(range(25)) and indices == sorted(set(indices))
    assert video.lost == pytest.approx(60 - len(indices), abs=1)


def test_salvage_of_a_whole_file_loses_nothing(files):
    video = open_video(files["h264"], salvage=True)
    assert (video.lost, shown(video)) == (0, [0, 25, 50])
