"""The pipeline itself: who is asked what, and features that are added to an index later."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from models import index_of, small_video, tiny_backbone
from stock_models import stock_backbone

from x2l.cache import assemble
from x2l.compressors.mean_pool import MeanPool
from x2l.compressors.vst import VST
from x2l.interfaces import Oracle
from x2l.oracles.attention import AttentionScore
from x2l.pipeline import Pipeline
from x2l.recipe import Recipe, build_pipeline
from x2l.selectors.constant import Constant
from x2l.selectors.random import Random
from x2l.selectors.top_k import TopK
from x2l.types import X2LError
from x2l.video import Sampling, open_video, stills_of

FRAMES_PER_CHUNK = 2


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return small_video(tmp_path_factory.mktemp("video"))


def opened(path, fps: float = 1.0, chunk_frames: int = FRAMES_PER_CHUNK):
    return open_video(path, Sampling(fps=fps), chunk_frames=chunk_frames)


class Deaf(Oracle):
    def score(self, question, index, backbone):
        raise AssertionError("was asked")


@pytest.mark.parametrize("selector", [Constant(), Random(k=1)])
def test_no_oracle_is_asked_for_a_plan_that_needs_no_scores(backbone, selector):
    pipeline = Pipeline(backbone, VST(), Deaf(), selector, ratios=(2, 8))
    answer = pipeline.ask(index_of(backbone, VST()), "What is this?", max_new_tokens=1)
    assert answer.plan.scores is None
    with pytest.raises(AssertionError, match="was asked"):
        replace(pipeline, selector=TopK(1)).ask(index_of(backbone, VST()), "What is this?")


def test_features_are_added_without_a_second_pre_fill(backbone, path, monkeypatch):
    first = Pipeline(backbone, VST(), AttentionScore("dot"), TopK(1), ratios=(2, 8))
    second = replace(first, oracle=AttentionScore("cosine"))
    index, expected = first.index(opened(path)), second.index(opened(path))
    monkeypatch.setattr(type(backbone), "prefill", lambda *_: pytest.fail("pre-fills again"))
    # Cut as the index is, however the video at hand would be.
    added = second.with_features(index, opened(path, chunk_frames=3))
    for chunk, fresh in zip(added.chunks, expected.chunks, strict=True):
        assert chunk.features.keys() == {first.oracle.key, second.oracle.key}
        features, same = chunk.features[second.oracle.key], fresh.features[second.oracle.key]
        assert torch.equal(features["frames"], same["frames"])


def test_features_of_other_frames_or_another_model_are_refused(backbone, path):
    pipeline = Pipeline(backbone, VST(), AttentionScore(), TopK(1), ratios=(2, 8))
    index = pipeline.index(opened(path))
    with pytest.raises(X2LError, match="sampling is"):
        pipeline.with_features(index, opened(path, fps=0.5))
    other = replace(pipeline, backbone=tiny_backbone(seed=1))
    with pytest.raises(X2LError, match="index: was made with backbone 'tiny-0', not 'tiny-1'"):
        other.with_features(index, opened(path))


def two_scenes(num_frames: tuple[int, int]):
    """Bright noise, then dark noise."""
    rng = np.random.default_rng(0)
    bright, dark = num_frames
    scenes = [rng.integers(200, 250, (bright, 64, 64, 3)), rng.integers(0, 50, (dark, 64, 64, 3))]
    frames = np.concatenate(scenes).astype(np.uint8)
    return stills_of(frames, np.arange(len(frames)), "scenes", chunk_frames="scenes")


@pytest.mark.parametrize(
    ("num_frames", "lengths"),
    # The frame in front of a cut opens the new scene; a scene of more than 15 frames is cut again.
    [((4, 3), [3, 4]), ((7, 12), [6, 13]), ((3, 20), [2, 15, 6])],
)
def test_chunks_are_cut_where_the_picture_changes(backbone, num_frames, lengths):
    pipeline = Pipeline(backbone, VST(), AttentionScore(), TopK(1), ratios=(2, 8))
    video = two_scenes(num_frames)
    index = pipeline.index(video)
    assert [chunk.num_frames for chunk in index.chunks] == lengths
    assert index.spec.recipe["chunk_frames"] == "scenes"
    other = replace(pipeline, oracle=AttentionScore("cosine"))
    added = other.with_features(index, video)
    assert other.ask(added, "What is this?", max_new_tokens=1).plan.scores is not None


def test_a_still_video_is_cut_into_tens(backbone):
    pipeline = Pipeline(backbone, VST(), AttentionScore(), TopK(1), ratios=(2, 8))
    same = np.full((12, 64, 64, 3), 90, np.uint8)
    index = pipeline.index(stills_of(same, np.arange(12), "same", chunk_frames="scenes"))
    assert [chunk.num_frames for chunk in index.chunks] == [10, 2]


def test_a_backbone_that_tells_no_frames_apart_finds_no_scenes(tmp_path):
    pipeline = Pipeline(stock_backbone("smolvlm", tmp_path), MeanPool(), AttentionScore(), TopK(1))
    with pytest.raises(X2LError, match="chunk_frames: scenes: needs frame_features, which smolvlm does not"):
        pipeline.index(two_scenes((4, 3)))
    with pytest.raises(X2LError, match="chunk_frames: scenes: needs frame_features"):
        build_pipeline(Recipe(compressor={"name": "mean_pool"}, chunk_frames="scenes"), pipeline.backbone)


def test_scenes_have_no_length_by_themselves():
    with pytest.raises(X2LError, match="scenes: expected the lengths of its scenes"):
        next(two_scenes((4, 3)).clips())


@pytest.mark.parametrize("family", ["video_xl", "qwen2_5_vl", "smolvlm"])
def test_many_questions_are_answered_as_one_by_one_from_one_cache_for_each_plan(
    family, path, tmp_path, monkeypatch
):
    backbone = tiny_backbone() if family == "video_xl" else stock_backbone(family, tmp_path)
    pipeline = Pipeline(backbone, MeanPool(), AttentionScore(), TopK(1), ratios=(1, 4))
    index = pipeline.index(opened(path))
    texts = [f"What is the {word}?" for word in ("digit", "colour", "frame", "number", "pattern", "digit")]
    expected = [pipeline.ask(index, text, max_new_tokens=4) for text in texts]
    assert len({answer.plan.ratios for answer in expected}) in range(1, len(texts))
    assembled = []
    whole = assemble
    monkeypatch.setattr(
        "x2l.pipeline.assemble",
        lambda index, plan, *rest: assembled.append(plan) or whole(index, plan, *rest),
    )
    answers = pipeline.ask_many(index, texts, max_new_tokens=4)
    assert [replace(answer, seconds={}) for answer in answers] == [
        replace(answer, seconds={}) for answer in expected
    ]
    assert len(assembled) == len({answer.plan.ratios for answer in expected})
