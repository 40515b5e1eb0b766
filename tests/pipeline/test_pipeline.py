"""The pipeline itself: who is asked what, and features that are added to an index later."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from models import index_of, small_video, tiny_backbone
from stock_models import stock_backbone

from x2l import registry
from x2l.cache import assemble
from x2l.chunkers import spelling
from x2l.chunkers.fixed import Fixed
from x2l.chunkers.scenes import Scenes
from x2l.compressors.mean_pool import MeanPool
from x2l.compressors.vst import VST
from x2l.interfaces import Chunker, Oracle
from x2l.oracles.attention import AttentionScore
from x2l.pipeline import Pipeline
from x2l.recipe import Recipe, build_pipeline
from x2l.selectors.constant import Constant
from x2l.selectors.random import Random
from x2l.selectors.top_k import TopK
from x2l.types import Question, X2LError
from x2l.video import Sampling, open_video, stills_of

FRAMES_PER_CHUNK = 2


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return small_video(tmp_path_factory.mktemp("video"))


def opened(path, fps: float = 1.0, reader: str = "auto"):
    return open_video(path, Sampling(fps=fps), reader)


def pipeline_of(backbone, chunker=None, compressor=None, ratios=(2, 8)) -> Pipeline:
    chunker = chunker or Fixed(FRAMES_PER_CHUNK)
    parts = compressor or VST(), AttentionScore(), TopK(1)
    return Pipeline(backbone, *parts, ratios=ratios, chunker=chunker)


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
    first = replace(pipeline_of(backbone), oracle=AttentionScore("dot"))
    second = replace(first, oracle=AttentionScore("cosine"))
    # The index names its reader; the frames are those of any.
    index, expected = first.index(opened(path, reader="decord")), second.index(opened(path))
    assert (index.spec.video["reader"], expected.spec.video["reader"]) == ("decord", "pyav")
    monkeypatch.setattr(type(backbone), "prefill", lambda *_: pytest.fail("pre-fills again"))
    # Cut as the index is, however this pipeline would.
    added = replace(second, chunker=Fixed(3)).with_features(index, opened(path))
    for chunk, fresh in zip(added.chunks, expected.chunks, strict=True):
        assert chunk.features.keys() == {first.oracle.key, second.oracle.key}
        features, same = chunk.features[second.oracle.key], fresh.features[second.oracle.key]
        assert torch.equal(features["frames"], same["frames"])


def test_features_of_other_frames_or_another_model_are_refused(backbone, path):
    pipeline = pipeline_of(backbone)
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
    return stills_of(frames, np.arange(len(frames)), "scenes")


@pytest.mark.parametrize(
    ("num_frames", "lengths"),
    # The frame in front of a cut opens the new scene; a scene of more than 15 frames is cut again.
    [((4, 3), [3, 4]), ((7, 12), [6, 13]), ((3, 20), [2, 15, 6])],
)
def test_chunks_are_cut_where_the_picture_changes(backbone, num_frames, lengths):
    pipeline = pipeline_of(backbone, Scenes())
    video = two_scenes(num_frames)
    index = pipeline.index(video)
    assert [chunk.num_frames for chunk in index.chunks] == lengths
    assert index.spec.recipe["chunk_frames"] == "scenes"
    other = replace(pipeline, oracle=AttentionScore("cosine"))
    added = other.with_features(index, video)
    assert other.ask(added, "What is this?", max_new_tokens=1).plan.scores is not None


def test_a_still_video_is_cut_into_tens(backbone):
    pipeline = pipeline_of(backbone, Scenes())
    same = np.full((12, 64, 64, 3), 90, np.uint8)
    index = pipeline.index(stills_of(same, np.arange(12), "same"))
    assert [chunk.num_frames for chunk in index.chunks] == [10, 2]


def test_a_backbone_that_tells_no_frames_apart_finds_no_scenes(tmp_path):
    backbone = stock_backbone("smolvlm", tmp_path)
    with pytest.raises(X2LError, match=r"chunker scenes: needs frame_features, .* expected one of fixed"):
        pipeline_of(backbone, Scenes(), MeanPool())
    with pytest.raises(X2LError, match="chunker scenes: needs frame_features"):
        build_pipeline(Recipe(compressor={"name": "mean_pool"}, chunk_frames="scenes"), backbone)


@dataclass
class BySeconds(Chunker):
    """A chunk for each stretch of time, as a user would write it; wrong where asked to be."""

    seconds: float = 2.0
    forgets: int = 0

    def lengths(self, video, backbone, progress=False):
        counts = np.bincount((video.times_s / self.seconds).astype(int))
        return counts[: len(counts) - self.forgets].tolist()


def test_a_chunker_of_a_users_own_is_spelt_in_a_recipe(backbone, path, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {slot: {} for slot in registry.SLOTS})
    registry.register("by_seconds")(BySeconds)
    recipe = Recipe(chunk_frames={"name": "by_seconds", "seconds": 3.0}, sampling=Sampling(fps=1.0))
    index = build_pipeline(recipe.check(), backbone).index(path)  # by its path: sampled as the recipe says
    assert [chunk.num_frames for chunk in index.chunks] == [3, 3, 2]
    assert index.spec.recipe["chunk_frames"] == {"name": "by_seconds", "seconds": 3.0, "forgets": 0}
    assert index.spec.video["sampling"] == recipe.sampling.to_mapping()
    assert [spelling(cut) for cut in (BySeconds(), Fixed(7), Scenes())] == ["by_seconds", 7, "scenes"]
    assert spelling(Scenes(max_frames=9)) == {"name": "scenes", "max_frames": 9, "still_frames": 10}


def test_chunks_that_are_not_the_video_are_refused(backbone, path):
    with pytest.raises(X2LError, match=r"chunker .*BySeconds: expected chunks of \d+ frames in all, got \["):
        pipeline_of(backbone, BySeconds(forgets=1)).index(opened(path))


@pytest.mark.parametrize("family", ["video_xl", "qwen2_5_vl", "smolvlm"])
def test_many_questions_are_answered_as_one_by_one_from_one_cache_for_each_plan(
    family, path, tmp_path, monkeypatch
):
    backbone = tiny_backbone() if family == "video_xl" else stock_backbone(family, tmp_path)
    pipeline = pipeline_of(backbone, compressor=MeanPool(), ratios=(1, 4))
    index = pipeline.index(opened(path))
    texts = [f"What is the {word}?" for word in ("digit", "colour", "frame", "number", "pattern", "digit")]
    expected = [pipeline.ask(index, text, max_new_tokens=4) for text in texts]
    assert len({answer.plan.ratios for answer in expected}) in range(1, len(texts))
    assembled = []
    whole = assemble
    monkeypatch.setattr(
        "x2l.pipeline.pipeline.assemble",
        lambda index, plan, *rest: assembled.append(plan) or whole(index, plan, *rest),
    )
    answers = pipeline.ask_many(index, texts, max_new_tokens=4)
    assert [replace(answer, seconds={}) for answer in answers] == [
        replace(answer, seconds={}) for answer in expected
    ]
    assert len(assembled) == len({answer.plan.ratios for answer in expected})


@torch.no_grad()
def test_a_second_feed_is_refused_and_not_lost(backbone, path):
    """Clips that come after the input has ended once, as from a camera that paused."""
    pipeline, clips = pipeline_of(backbone), list(opened(path).clips([2, 2, 2, 2]))
    queue, prefix = clips[:2], backbone.begin()

    def arriving():
        while queue:
            yield queue.pop(0)

    encoding = pipeline.encode(prefix, pipeline.read(arriving(), prefix.num_tokens))
    assert len(list(encoding)) == 2
    queue += clips[2:]
    with pytest.raises(X2LError, match="encode: the video ended with its last clip"):
        list(encoding)


def warned(call) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if "positions" in str(warning.message)]


@pytest.mark.parametrize("compressor", [VST(), MeanPool()], ids=["vst", "mean_pool"])
def test_more_tokens_than_positions_are_told_once_with_both_numbers(path, compressor):
    """A model remembers what VSTs keep of a video, and all of one whose finished KVs are compressed."""
    index = pipeline_of(tiny_backbone(), compressor=compressor).index(opened(path))
    kept = sum(chunk.levels[2].num_tokens for chunk in index.chunks)
    tokens = index.prefix.num_tokens + (kept if isinstance(compressor, VST) else index.num_visual_tokens)
    short, enough = (
        pipeline_of(tiny_backbone(max_position_embeddings=limit), compressor=compressor)
        for limit in (tokens - 1, tokens)
    )
    (message,) = warned(lambda: [short.index(opened(path)) for _ in range(2)])
    assert f"{tokens} tokens are read, the model has {tokens - 1} positions" in message
    assert not warned(lambda: enough.index(opened(path)))


def test_a_question_counts_too(path):
    pipeline = pipeline_of(tiny_backbone(max_position_embeddings=1000))
    index = pipeline.index(opened(path))
    short, long = Question("Is it day?"), Question("day " * 990)
    assert not warned(lambda: pipeline.ask(index, short, max_new_tokens=1))
    (message,) = warned(lambda: pipeline.ask_many(index, [long, short, long], max_new_tokens=1))
    cached = assemble(index, pipeline.plan(long, index), pipeline.backbone).get_seq_length()
    tokens = cached + len(pipeline.backbone.encode_question(long))
    assert tokens > 1000 and f"{tokens:,} tokens are read, the model has 1,000 positions" in message


def test_an_empty_answer_is_told(backbone, path):
    pipeline = pipeline_of(backbone)
    index, tokenizer = pipeline.index(opened(path)), backbone.tokenizer
    others = [token for token in range(len(tokenizer)) if token != tokenizer.eos_token_id]
    with pytest.warns(UserWarning, match="an answer is empty"):
        answers = pipeline.ask_many(index, ["Is it day?"], suppress_tokens=others)
    assert answers[0].text == ""
