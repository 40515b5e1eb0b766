"""The key of an index: equal where indices are, and only there."""

import shutil
from dataclasses import replace

import pytest
from models import small_video, tiny_backbone

from x2l.chunkers.fixed import Fixed
from x2l.compressors.mean_pool import MeanPool
from x2l.compressors.vst import VST
from x2l.oracles.attention import AttentionScore
from x2l.oracles.subtitles import Subtitles
from x2l.pipeline import Pipeline
from x2l.selectors.constant import Constant
from x2l.selectors.top_k import TopK
from x2l.storage.fingerprint import whole_fingerprint
from x2l.video import Sampling, open_video


@pytest.fixture
def path(tmp_path):
    return small_video(tmp_path)


@pytest.fixture(scope="module")
def pipeline(backbone):
    return Pipeline(backbone, VST(), AttentionScore(), TopK(1), (2, 8), chunker=Fixed(2))


def test_it_is_that_of_a_copy_and_of_another_selector(pipeline, path, tmp_path):
    copied = open_video(shutil.copy(path, tmp_path / "copied.mp4"))
    again = replace(pipeline, selector=Constant(2), positions="original")
    assert again.key(copied) == pipeline.key(open_video(path))


def test_all_that_decides_an_index_decides_it(pipeline, path, tmp_path):
    video = open_video(path)
    others = [
        replace(pipeline, backbone=tiny_backbone(1)).key(video),
        replace(pipeline, compressor=VST(passes="pooled")).key(video),
        replace(pipeline, compressor=MeanPool()).key(video),
        replace(pipeline, ratios=(2, 4)).key(video),
        replace(pipeline, chunker=Fixed(3)).key(video),
        replace(pipeline, oracle=AttentionScore(similarity="cosine")).key(video),
        replace(pipeline, oracle=Subtitles()).key(video),
        pipeline.key(open_video(path, Sampling(fps=2.0))),
        pipeline.key(open_video(path, reader="decord")),
    ]
    (tmp_path / "longer.mp4").write_bytes(path.read_bytes() + b"\0")
    others.append(pipeline.key(open_video(tmp_path / "longer.mp4")))
    assert len({pipeline.key(video), *others}) == len(others) + 1


def test_a_byte_in_the_middle_of_a_file_counts(tmp_path):
    contents = bytearray(3 << 20)
    (tmp_path / "one").write_bytes(contents)
    contents[len(contents) // 2] = 1
    (tmp_path / "other").write_bytes(contents)
    assert whole_fingerprint(tmp_path / "one") != whole_fingerprint(tmp_path / "other")


def test_what_an_oracle_looks_at_beside_the_frames_does_too(pipeline, path):
    pipeline, keys = replace(pipeline, oracle=Subtitles()), []
    for words in ("A zebra.", "A horse."):
        path.with_suffix(".srt").write_text(f"1\n00:00:01,000 --> 00:00:02,000\n{words}\n")
        keys += [pipeline.key(open_video(path)) for _ in range(2)]
    assert keys[0] == keys[1] != keys[2] == keys[3]
