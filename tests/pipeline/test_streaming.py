"""An index that grows: whole chunks only, equal to one made at once, whatever stops it on its way."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from indices import assert_equal_index, error_of

from x2l.chunkers.fixed import Fixed
from x2l.chunkers.scenes import Scenes
from x2l.compressors.mean_pool import MeanPool
from x2l.compressors.packed import Packed
from x2l.compressors.vst import VST
from x2l.oracles.attention import AttentionScore
from x2l.pipeline import Pipeline
from x2l.selectors.top_k import TopK
from x2l.storage import store
from x2l.types import X2LError
from x2l.video import Sampling, open_video
from x2l.waiting import Waiting

NUM_CHUNKS = 4
PASSES = ["own", "joint", "pooled", "clustered"]


def frames_of(video, sampling=None):
    """Frames and their times, more of them than are looked at."""
    for clip in open_video(video.path, sampling or Sampling(fps=5.0)).clips():
        yield from zip(clip.frames, clip.times_s.tolist(), strict=True)


def pipeline_of(backbone, compressor=None):
    parts = compressor or VST(), AttentionScore(), TopK(1), (2, 8)
    return Pipeline(backbone, *parts, chunker=Fixed(2), sampling=Sampling(fps=1.0))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize(
    "compressor",
    [*(VST(passes=passes) for passes in PASSES), MeanPool(edge_ratio=2), Packed(VST(), 4)],
    ids=[*PASSES, "mean", "packed"],
)
def test_an_ended_stream_is_the_index_of_its_frames(backbone, video, compressor, tmp_path):
    pipeline = pipeline_of(backbone, compressor)
    numbers = [chunk.index for chunk in pipeline.stream(frames_of(video), tmp_path / "index")]
    made, right = store.load(tmp_path / "index"), pipeline.index(video)
    assert numbers == list(range(NUM_CHUNKS)) and store.verify(tmp_path / "index")
    assert_equal_index(replace(right, spec=made.spec), made)
    assert made.spec.recipe == right.spec.recipe
    store.save(made, tmp_path / "index")  # in one file
    assert_equal_index(made, store.load(tmp_path / "index"))
    assert sorted(files_of(tmp_path / "index")) == [store.MANIFEST, store.TENSORS]


def test_it_is_asked_while_it_grows(backbone, video, tmp_path):
    pipeline = pipeline_of(backbone)
    for chunk in pipeline.stream(frames_of(video), tmp_path / "index"):
        index = store.load(tmp_path / "index")
        assert [each.index for each in index.chunks] == list(range(chunk.index + 1))
        answer = pipeline.ask(index, "What is this?", max_new_tokens=1)
        assert len(answer.plan.ratios) == chunk.index + 1
    saved = error_of(lambda: list(pipeline.stream(frames_of(video), tmp_path / "index")))
    assert "is a finished index" in saved


def test_a_live_stream_loses_what_has_no_room(backbone, video, tmp_path):
    pipeline, (frame, _), waiting = pipeline_of(backbone), next(frames_of(video)), Waiting(4)
    live = ((frame, float(second)) for second in range(12))
    chunks = [*pipeline.stream(live, tmp_path / "index", waiting=waiting)]
    assert waiting.num_dropped > 0 and len(waiting) == 0
    index = store.load(tmp_path / "index")
    assert sum(chunk.num_frames for chunk in index.chunks) == 12 - waiting.num_dropped
    assert chunks[-1].end_s == 11.0


def test_a_live_stream_that_was_stopped_goes_on_with_new_frames(backbone, video, tmp_path):
    pipeline, (frame, _) = pipeline_of(backbone), next(frames_of(video))
    for start_s in (0.0, 1.0, 100.0):  # a source counts from where it was opened
        live = ((frame, start_s + second) for second in range(6))
        stream = pipeline.stream(live, tmp_path / "index", waiting=Waiting(60))
        next(stream)
        stream.close()
    spans = [(chunk.start_s, chunk.end_s) for chunk in store.load(tmp_path / "index").chunks]
    assert spans == [(0.0, 1.0), (2.0, 3.0), (4.0, 5.0)]


@pytest.mark.parametrize("passes", PASSES)
def test_it_goes_on_where_it_was_and_is_the_same_to_the_byte(backbone, video, passes, tmp_path):
    pipeline = pipeline_of(backbone, VST(passes=passes, edge_ratio=4))
    list(pipeline.stream(frames_of(video), tmp_path / "whole"))
    for num in range(NUM_CHUNKS):
        # Also with frames that the index has seen already, or the source no longer shows.
        stream = pipeline.stream(frames_of(video), tmp_path / "parts")
        assert [chunk.index for chunk in islice(stream, 1)] == [num]
        stream.close()
    assert list(pipeline.stream(frames_of(video), tmp_path / "parts")) == []
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_another_spec_or_compressor_does_not_go_on(backbone, video, tmp_path):
    for compressor, other, said in (
        (VST(), VST(edge_ratio=None), "was begun with another model, recipe or source"),
        (MeanPool(), MeanPool(), "compressor mean_pool: its index cannot be gone on with"),
        (Packed(VST()), Packed(VST()), "compressor packed: its index cannot be gone on with"),
    ):
        folder = tmp_path / said[:20]
        next(iter(pipeline_of(backbone, compressor).stream(frames_of(video), folder)))
        before = files_of(folder)
        assert said in error_of(lambda: list(pipeline_of(backbone, other).stream(frames_of(video), folder)))  # noqa: B023
        assert files_of(folder) == before and len(store.load(folder).chunks) == 1


def test_one_writes_and_others_are_refused(backbone, video, tmp_path):
    pipeline = pipeline_of(backbone)
    stream = pipeline.stream(frames_of(video), tmp_path / "index")
    next(stream)
    second = pipeline.stream(frames_of(video), tmp_path / "index")
    assert "another run is writing there" in error_of(next, second)
    assert "another run is writing there" in error_of(store.save, pipeline.index(video), tmp_path / "index")
    assert [chunk.index for chunk in stream] == [1, 2, 3]
    assert len(store.load(tmp_path / "index").chunks) == NUM_CHUNKS


def test_memory_is_that_of_two_chunks(backbone, tmp_path):
    """Frames are let go when the chunk behind theirs is there."""
    alive = []

    def noise():
        for second in range(40):
            alive.append(second)
            yield np.full((32, 32, 3), second, np.uint8), float(second)

    ahead = [
        len(alive) - 2 * chunk.index - 2
        for chunk in pipeline_of(backbone).stream(noise(), tmp_path / "index")
    ]
    assert max(ahead) <= 2


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([(np.zeros((8, 8, 3)), 0.0)], "frames: expected uint8 [height, width, 3]"),
        ([(np.zeros((8, 8), np.uint8), 0.0)], "frames: expected uint8 [height, width, 3]"),
        ([(np.zeros((8, 8, 3), np.uint8), t) for t in (0.0, 0.0)], "frames: expected times that ascend"),
        (
            [(np.zeros((8, 8 + t, 3), np.uint8), 1.0 * t) for t in (0, 1)],
            "frames: expected one size in a chunk",
        ),
    ],
)
def test_wrong_frames_are_named(backbone, frames, said, tmp_path):
    stream = pipeline_of(backbone).stream(iter(frames), tmp_path / "index")
    assert said in error_of(lambda: list(stream))
    assert "holds no whole chunk yet" in error_of(store.load, tmp_path / "index")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chunker": Scenes()}, "looks at all of a video"),
        ({"sampling": Sampling(num_frames=4)}, "a stream takes fps"),
    ],
)
def test_what_needs_the_whole_video_is_refused(backbone, video, changes, said, tmp_path):
    stream = replace(pipeline_of(backbone), **changes).stream(frames_of(video), tmp_path / "index")
    with pytest.raises(X2LError, match=said):
        next(stream)
    assert not (tmp_path / "index").exists()


FOLLOWER = """
import sys
sys.path[:0] = {paths!r}
import torch
from models import tiny_backbone
from test_streaming import frames_of, pipeline_of
from x2l.video import Sampling, open_video
torch.set_num_threads(1)
torch.manual_seed(0)
video = open_video({video!r}, Sampling(fps=1.0))
for chunk in pipeline_of(tiny_backbone()).stream(frames_of(video, Sampling(fps=25.0)), {out!r}):
    print(chunk.index, flush=True)
"""


@pytest.mark.slow
def test_a_follower_that_is_killed_twenty_times_makes_the_same(tmp_path, backbone):
    from models import write_dataset

    written = write_dataset(tmp_path, 1, 3, 30, size=64, seconds_per_scene=4) / "videos" / "0000.mp4"
    paths = [path for path in sys.path if path]
    random = np.random.default_rng(0)

    def follow(out: Path, kill_after_s: float | None) -> bool:
        code = FOLLOWER.format(paths=paths, video=str(written), out=str(out))
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        process.stdout.readline()  # its first chunk: the killing starts there
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode == 0

    assert follow(tmp_path / "whole", None)
    num_kills = 0
    while num_kills < 20:
        assert not follow(tmp_path / "parts", float(random.uniform(0, 0.05)))
        num_kills += 1
        assert store.verify(tmp_path / "parts")
    assert follow(tmp_path / "parts", None)
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
