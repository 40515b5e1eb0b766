"""Each oracle against a direct computation, and the attention score against the reference."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models import QUESTION, bare_index, chunks, index_of, tiny_backbone
from safetensors.torch import load_file
from torch.nn.functional import normalize

from x2l.backbones.video_xl import VideoXL
from x2l.compressors.identity import Identity
from x2l.compressors.vst import VST
from x2l.oracles.annotated import Annotated
from x2l.oracles.attention import AttentionScore
from x2l.oracles.llm_attention import LLMAttention
from x2l.selectors.top_k import TopK
from x2l.types import Chunk, Question, X2LError

GOLDEN = os.environ.get("X2L_GOLDEN_DIR")
ATTENTION_SCORES = [
    AttentionScore(similarity, pool) for similarity in ("dot", "cosine") for pool in ("max", "mean")
]


@pytest.fixture(scope="module")
def index(backbone):
    return index_of(backbone, VST(), oracles=tuple(ATTENTION_SCORES))


class GivenQuery(VideoXL):
    """A backbone whose text embeddings are given, as in the golden tensors."""

    def __init__(self, query: torch.Tensor):
        self.query = query

    def embed_text(self, text):
        return self.query


@pytest.mark.skipif(not GOLDEN, reason="X2L_GOLDEN_DIR is not set")
def test_attention_score_matches_the_reference():
    manifest = json.loads((Path(GOLDEN) / "manifest.json").read_text())
    (case,) = (case for case in manifest["cases"] if case["kind"] == "oracle_and_chunking")
    tensors = load_file(Path(GOLDEN) / case["file"])
    assert case["oracle"]
    for i, entry in enumerate(case["oracle"]):
        visual = tensors[f"oracle{i}.visual_f16"].float().split(entry["block_tokens"])
        source = [Chunk(j, np.arange(len(block) // 144) * 1.0, block) for j, block in enumerate(visual)]
        given = GivenQuery(tensors[f"oracle{i}.query"].float())
        golden_index = with_features(bare_index(len(source)), AttentionScore(), source, given)
        scores = AttentionScore().score(QUESTION, golden_index, given)
        torch.testing.assert_close(scores, tensors[f"oracle{i}.chunk_scores"].float(), atol=1e-4, rtol=1e-4)
        best_first = scores.argsort(descending=True)[: entry["topk"]]
        assert best_first.tolist() == tensors[f"oracle{i}.topk"].tolist() == entry["indices"]
        plan = TopK(entry["topk"]).choose(scores, golden_index)
        assert {j for j, ratio in enumerate(plan.ratios) if ratio == 2} == set(entry["indices"])


def with_features(index, oracle, source, backbone):
    made = [
        replace(chunk_kv, features={oracle.key: oracle.prepare(chunk, backbone)})
        for chunk_kv, chunk in zip(index.chunks, source, strict=True)
    ]
    return replace(index, chunks=tuple(made))


@pytest.mark.parametrize("oracle", ATTENTION_SCORES, ids=lambda oracle: f"{oracle.similarity}-{oracle.pool}")
def test_attention_score_equals_the_mean_over_all_pairs(oracle, backbone, index):
    query = backbone.embed_text(QUESTION.text).detach()
    expected = []
    for chunk in chunks(backbone, ragged=True):
        tokens = chunk.visual_tokens
        if oracle.similarity == "cosine":
            tokens, query = normalize(tokens, dim=-1), normalize(query, dim=-1)
        per_frame = (tokens @ query.T).mean(dim=1).unflatten(0, (chunk.num_frames, -1)).mean(dim=1)
        expected.append(per_frame.max() if oracle.pool == "max" else per_frame.mean())
    with torch.no_grad():
        scores = oracle.score(QUESTION, index, backbone)
    torch.testing.assert_close(scores, torch.stack(expected), atol=1e-5, rtol=1e-5)
    assert len(scores.unique()) == len(scores)


def test_mixed_precision_does_not_round_the_scores(backbone, index):
    """Neighbours would change places."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = AttentionScore().score(QUESTION, index, backbone)
    with torch.no_grad():
        assert scores.equal(AttentionScore().score(QUESTION, index, backbone))


def test_attention_score_stores_one_vector_per_frame(index):
    shapes = [chunk.features[AttentionScore().key]["frames"].shape for chunk in index.chunks]
    assert shapes == [(5, 64), (5, 64), (5, 64), (3, 64)]


def test_the_key_is_what_the_features_depend_on():
    assert AttentionScore().key == '{"name": "attention", "similarity": "dot"}'
    assert len({oracle.key for oracle in ATTENTION_SCORES}) == 2


def test_an_index_without_the_features_is_refused(backbone):
    bare = index_of(backbone, Identity(), oracles=(AttentionScore(),))
    with pytest.raises(X2LError) as caught:
        AttentionScore("cosine").score(QUESTION, bare, backbone)
    message = str(caught.value)
    assert '"similarity": "cosine"' in message and '"similarity": "dot"' in message
    assert "the index holds no features for it" in message and "Pipeline.with_features" in message


@pytest.mark.parametrize("pool", ["mean", "sum"])
@torch.no_grad()
def test_llm_attention_is_that_of_one_pass_over_everything(backbone, pool):
    """On an uncompressed index: attention of a plain forward over [prefix; video; question]."""
    source = chunks(backbone, ragged=True)
    index = index_of(backbone, Identity(), source)
    question = backbone.encode_question(QUESTION)
    video = torch.cat([chunk.visual_tokens for chunk in source])
    prefix = backbone.embed_text(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    )
    embeds = torch.cat([prefix, video, backbone.embed_ids(question)])[None]
    eager = tiny_backbone(attn_implementation="eager").model
    weights = torch.stack(eager(inputs_embeds=embeds, output_attentions=True).attentions)[:, 0, :, -1]
    per_token = weights.mean(dim=(0, 1))[len(prefix) : len(prefix) + len(video)]
    expected = [getattr(part, pool)() for part in per_token.split([len(c.visual_tokens) for c in source])]
    scores = LLMAttention(pool).score(QUESTION, index, backbone)
    torch.testing.assert_close(scores, torch.stack(expected), atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_weights_are_formed_for_the_last_token_alone(backbone, index, monkeypatch):
    """Of 60 tokens behind 150,000 cached ones, those of a 7B model would be 14 GB."""
    rows, decoder = [], type(backbone.decoder)
    forward = decoder.forward

    def watched(self, input_ids=None, output_attentions=False, **inputs):
        rows.append((bool(output_attentions), input_ids.shape[-1]))
        return forward(self, input_ids=input_ids, output_attentions=output_attentions, **inputs)

    monkeypatch.setattr(decoder, "forward", watched)
    LLMAttention().score(QUESTION, index, backbone)
    assert rows == [(False, len(backbone.encode_question(QUESTION)) - 1), (True, 1)]


def test_what_was_said_before_does_not_count(backbone, index):
    turns = (("What colour is the card?", "red"),)
    alone, later = (LLMAttention().score(replace(QUESTION, history=h), index, backbone) for h in ((), turns))
    assert torch.equal(alone, later)


@torch.no_grad()
def test_llm_attention_reads_the_coarsest_level(backbone, index):
    scores = LLMAttention("sum").score(QUESTION, index, backbone)
    only_high = index_of(backbone, VST(), ratios=(8,))
    assert torch.equal(scores, LLMAttention("sum").score(QUESTION, only_high, backbone))
    assert scores.shape == (4,) and 0 < scores.sum() < 1


@pytest.mark.parametrize(
    ("spans_s", "expected"),
    [
        (((2.5, 3.0),), [0, 1, 0, 0]),
        (((3.0, 3.5),), [0, 1, 0, 0]),  # the chunk's last frame, at 3 s
        (((3.5, 3.9),), [0, 1, 0, 0]),  # between two chunks: the last frame stands until the next
        (((7.2, 7.9),), [0, 0, 0, 1]),
        (((0.0, 2.0),), [1, 0, 0, 0]),  # ends before the frame at 2 s
        (((0.0, 2.1),), [1, 1, 0, 0]),
        (((-5.0, 99.0),), [1, 1, 1, 1]),
        (((0.5, 1.0), (6.0, 7.0)), [1, 0, 0, 1]),
    ],
)
def test_annotated_marks_the_chunks_that_a_span_overlaps(backbone, spans_s, expected):
    """Chunks of two frames, at (0, 1), (2, 3), (4, 5) and (6, 7) s."""
    question = Question("?", gold_spans_s=spans_s)
    assert Annotated().score(question, bare_index(4), backbone).tolist() == expected


@pytest.mark.parametrize("spans_s", [None, (), ((10.0, 12.0),)])
def test_annotated_abstains_without_spans_that_are_seen(backbone, spans_s):
    assert Annotated().score(Question("?", gold_spans_s=spans_s), bare_index(4), backbone) is None
