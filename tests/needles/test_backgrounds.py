"""Backgrounds of needle videos and the files they end in: provenance, motion, determinism, encoding."""

from collections import defaultdict
from pathlib import Path

import av
import numpy as np
import pytest

from x2l.needles import backgrounds
from x2l.needles.backgrounds import ASSETS, Footage, Photo, load, manifest
from x2l.needles.video_file import write_video
from x2l.types import X2LError

MAX_ASSETS_BYTES = 4_000_000


def every_background():
    return [background for split in backgrounds.SPLITS for background in load(split, seed=5)]


def test_the_manifest_lists_exactly_the_files_that_are_there():
    listed = [item["file"] for item in manifest()]
    present = {str(path.relative_to(ASSETS)) for path in ASSETS.rglob("*") if path.suffix in (".jpg", ".mp4")}
    assert len(listed) == len(set(listed))
    assert set(listed) == present


def test_every_file_states_author_licence_and_origin():
    licences = (ASSETS / "LICENSES.md").read_text(encoding="utf-8")
    for item in manifest():
        assert item["author"] and item["licence"] and item["licence_stated_in"], item["file"]
        assert set(item["origin"]) == {"archive", "package", "version", "path", "sha256"}
        row = next(line for line in licences.splitlines() if line.startswith(f"| {item['file']} |"))
        for stated in (item["split"], item["author"], item["licence"], item["origin"]["path"]):
            assert stated in row


def test_the_assets_are_small():
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < MAX_ASSETS_BYTES


@pytest.mark.parametrize("of", [lambda item: item["group"], lambda item: item["origin"]["sha256"]])
def test_no_source_is_in_both_splits(of):
    splits = defaultdict(set)
    for item in manifest():
        splits[of(item)].add(item["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_clips_are_short_and_silent_at_the_stated_rate():
    for item in manifest():
        if item["kind"] == "clip":
            with av.open(str(ASSETS / item["file"])) as container:
                (stream,) = container.streams
                assert stream.average_rate == backgrounds.CLIP_FPS
                assert 4 <= stream.frames / backgrounds.CLIP_FPS <= 30


def test_both_splits_have_photographs_and_footage():
    for split in backgrounds.SPLITS:
        assert {type(background) for background in load(split, seed=0)} == {Photo, Footage}


@pytest.mark.parametrize("size", [33, 96])
def test_frames_are_square_and_move(size):
    for background in every_background():
        first, later = background.frame(3.0, size), background.frame(5.0, size)
        assert first.shape == later.shape == (size, size, 3) and first.dtype == np.uint8
        assert np.abs(first.astype(int) - later).max() > 2, background.path.name


def test_photographs_move_smoothly():
    for background in load("train", seed=1):
        if isinstance(background, Photo):
            now = background.frame(8.0, 64).astype(int)
            step, leap = (np.abs(now - background.frame(time_s, 64)).mean() for time_s in (8.02, 10.0))
            assert step < leap / 4, background.path.name


def test_frames_depend_on_the_seed_only():
    one, same, other = (load("eval", seed=seed) for seed in (7, 7, 8))
    for first, second, third in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(first.frame(11.5, 48), second.frame(11.5, 48))
        assert (first.frame(11.5, 48) != third.frame(11.5, 48)).any()


def test_a_variant_is_another_scene_of_the_same_source():
    photo = next(background for background in load("train", seed=0) if isinstance(background, Photo))
    variants = [photo.variant(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert {(variant.path, variant.group) for variant in variants} == {(photo.path, photo.group)}
    assert variants[0] == variants[1]
    assert (variants[0].frame(0.0, 48) != variants[2].frame(0.0, 48)).any()


def test_footage_plays_forth_and_back():
    tree = next(background for background in load("eval", seed=0) if background.path.name == "tree.mp4")
    seen = [tree._number(5, position / backgrounds.CLIP_FPS) for position in range(12)]
    assert seen == [0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3]
    assert tree._number(1, 9.0) == 0


def test_bad_arguments_are_named(tmp_path: Path):
    with pytest.raises(X2LError, match="split: expected one of train, eval, got 'test'"):
        load("test", seed=0)
    with pytest.raises(X2LError, match=r"manifest\.json"):
        load("train", seed=0, folder=tmp_path)
    with pytest.raises(X2LError, match="size"):
        load("train", seed=0)[0].frame(0.0, 0)


def moving_frames(num_frames: int, size: int = 64):
    background = load("eval", seed=3)[0]
    return (background.frame(number / 4, size) for number in range(num_frames))


def test_a_written_video_reads_back(tmp_path: Path):
    path = tmp_path / "needle.mp4"
    num_bytes = write_video(path, moving_frames(50), fps=4.0)
    assert num_bytes == path.stat().st_size
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
    assert stream.average_rate == 4 and stream.codec_context.name == "h264"
    assert len(frames) == 50
    assert frames[-1].time == pytest.approx(49 / 4)
    expected = np.stack(list(moving_frames(50))).astype(int)
    decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    assert np.abs(expected - decoded).mean() < 6
    assert 1 <= sum(frame.key_frame for frame in frames) <= len(frames) // 4


def test_the_same_frames_give_the_same_bytes(tmp_path: Path):
    paths = [tmp_path / name for name in ("one.mp4", "two.mp4")]
    for path in paths:
        write_video(path, moving_frames(20))
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "at least one frame"),
        ([np.zeros((7, 8, 3), np.uint8)], "even"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)], "frame 1"),
        ([np.zeros((8, 8, 3), np.float32)], "frame 0"),
    ],
)
def test_a_bad_frame_leaves_no_file(tmp_path: Path, frames, message):
    with pytest.raises(X2LError, match=message):
        write_video(tmp_path / "bad.mp4", frames)
    assert not list(tmp_path.iterdir())


def test_footage_that_cannot_be_read_is_not_taken_for_a_file_that_cannot_be_written(tmp_path: Path):
    def photograph():
        yield np.zeros((8, 8, 3), np.uint8)
        yield np.frombuffer((tmp_path / "missing.png").read_bytes(), np.uint8)

    with pytest.raises(X2LError, match=r"frames: cannot be read, .*missing\.png"):
        write_video(tmp_path / "bad.mp4", photograph())
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(X2LError, match="existing folder"):
        write_video(tmp_path / "nowhere" / "needle.mp4", moving_frames(2))
