"""Subtitles, from a file beside a video to the chunk where a word is said."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models import chunks, index_of
from oracle_checkpoints import save_bert_tokenizer, save_sentence_encoder, write
from torch.nn.functional import normalize
from transformers import BertModel

from x2l.chunkers.fixed import Fixed
from x2l.compressors.identity import Identity
from x2l.oracles._subtitle_file import read_cues
from x2l.oracles.subtitles import Subtitles
from x2l.pipeline import Pipeline
from x2l.selectors.top_k import TopK
from x2l.storage import store
from x2l.types import Question, X2LError
from x2l.video import stills_of

SRT = """\ufeff1
00:00:00,500 --> 00:00:02,000
Hello, <i>everybody</i>!

2
00:00:04,200 --> 00:00:04,800
{\\an8}The red card
is here.

3
00:00:09,500 --> 00:00:11,000
A star, a star &amp; a moon.
"""
VTT = """WEBVTT
Language: en

NOTE nobody says this

00:00.500 --> 00:02.000 align:start
<v Ann>Hello, <b>everybody</b>!</v>

card
00:04.200 --> 00:04.800
The red<00:00:04.500><c> card</c>
is here.

00:00:09.500 --> 00:00:11.000
A star, a star &amp; a moon.
"""
CUES = (
    ((0.5, 2.0), "Hello, everybody!"),
    ((4.2, 4.8), "The red card is here."),
    ((9.5, 11.0), "A star, a star & a moon."),
)


@pytest.fixture
def source(backbone):
    """Chunks of 5 s at one frame per second, 18 s in all, of a video called noise."""
    return chunks(backbone, ragged=True)


def beside(source, folder: Path, **files: str):
    """The chunks of a video in a folder with these files (`_` for `.`)."""
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    facts = replace(source[0].video, path=folder / "talk.mp4")
    return [replace(chunk, video=facts) for chunk in source]


def texts(index, oracle):
    return [bytes(chunk.features[oracle.key]["text"].tolist()).decode() for chunk in index.chunks]


@pytest.mark.parametrize(("name", "text"), [("a.srt", SRT), ("a.vtt", VTT)])
def test_cues_are_read_without_mark_up(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_cues(tmp_path / name) == CUES


def test_a_chunk_holds_what_is_said_until_the_next_one_starts(tmp_path, source, backbone):
    """4.2 to 4.8 s lies between the last frame of the first chunk and the next; 9.5 to 11 s is cut in two."""
    oracle = Subtitles()
    index = index_of(backbone, Identity(), beside(source, tmp_path, talk_srt=SRT), oracles=(oracle,))
    star = "A star, a star & a moon."
    assert texts(index, oracle) == ["Hello, everybody! The red card is here.", star, star, ""]


@pytest.mark.parametrize(
    ("files", "path", "found"),
    [
        ({"talk_vtt": VTT}, None, True),
        ({"talk_en_vtt": VTT}, None, True),
        ({"talk_srt": SRT, "talk_de_srt": SRT}, None, True),
        ({"other_srt": SRT, "talkative_srt": SRT}, None, False),
        ({"other_srt": SRT}, "other.srt", True),
        ({"talk_srt": SRT}, ".", True),
        ({}, None, False),
    ],
)
def test_the_file_is_found_by_the_videos_name_or_given(
    tmp_path, source, backbone, monkeypatch, files, path, found
):
    monkeypatch.chdir(tmp_path)
    oracle = Subtitles(path)
    stored = oracle.prepare(beside(source, tmp_path, **files)[0], backbone)["text"]
    assert (len(stored) > 0) is found and stored.dtype == torch.uint8


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({}, "none.srt", "oracle.path: none.srt: expected a folder, or a file .srt or .vtt"),
        ({"talk_txt": SRT}, "talk.txt", "oracle.path: talk.txt: expected a folder, or a file .srt or .vtt"),
        ({"talk_de_srt": SRT, "talk_en_srt": SRT}, None, "holds talk.de.srt, talk.en.srt, expected one"),
        ({"talk_srt": "words"}, None, "talk.srt: cannot be read as subtitles, Invalid format"),
        ({"talk_vtt": "WEBVTT\n\n"}, None, "talk.vtt: expected subtitles, found none in it"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, source, backbone, monkeypatch, files, path, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(X2LError) as caught:
        Subtitles(path).prepare(beside(source, tmp_path, **files)[0], backbone)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_other_bytes_is_one_line(tmp_path, source, backbone):
    (tmp_path / "talk.srt").write_bytes("1\n00:00:00,000 --> 00:00:01,000\nÜber\n".encode("latin-1"))
    with pytest.raises(X2LError, match=r"talk.srt: cannot be read as subtitles, .*utf-8"):
        Subtitles().prepare(beside(source, tmp_path)[0], backbone)


def test_a_file_that_was_changed_is_read_again(tmp_path, source, backbone):
    (said, *_), oracle = beside(source, tmp_path, talk_srt=SRT), Subtitles()
    before = oracle.prepare(said, backbone)["text"]
    (tmp_path / "talk.srt").write_text(SRT.replace("red", "blue"))
    assert len(oracle.prepare(said, backbone)["text"]) == len(before) + 1


def test_a_video_that_lies_nowhere_has_no_subtitles(tmp_path, source, backbone):
    said = replace(source[0], video=replace(source[0].video, path=tmp_path / "no" / "talk.mp4"))
    assert not len(Subtitles().prepare(said, backbone)["text"])


def test_a_chunk_of_no_known_video_is_refused(source, backbone):
    with pytest.raises(X2LError, match="chunk 0 does not say which video it is of"):
        Subtitles().prepare(replace(source[0], video=None), backbone)


def lucene_bm25(query, documents, k1=1.5, b=0.75):
    """The formula, term by term."""
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for term in query:
            with_term = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - with_term + 0.5) / (with_term + 0.5))
            score += idf * counts[term] / (counts[term] + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return torch.tensor(scores)


def test_scores_are_bm25(tmp_path, source, backbone):
    oracle = Subtitles()
    index = index_of(backbone, Identity(), beside(source, tmp_path, talk_srt=SRT), oracles=(oracle,))
    scores = oracle.score(Question("Where is the Star, and the red card?"), index, backbone)
    star = ["star", "star", "moon"]
    documents = [["hello", "everybody", "red", "card", "here"], star, star, []]
    expected = lucene_bm25(["where", "star", "red", "card"], documents)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert scores.argmax() == 0 and scores[1] == scores[2] > scores[3] == 0


@pytest.mark.parametrize("text", ["Who sings?", "Is it the?", "?"])
def test_it_abstains_where_no_word_is_said(tmp_path, source, backbone, text):
    oracle = Subtitles()
    index = index_of(backbone, Identity(), beside(source, tmp_path, talk_srt=SRT), oracles=(oracle,))
    assert oracle.score(Question(text), index, backbone) is None


def test_it_abstains_for_a_video_without_subtitles(tmp_path, source, backbone):
    oracle = Subtitles()
    index = index_of(backbone, Identity(), beside(source, tmp_path), oracles=(oracle,))
    assert texts(index, oracle) == [""] * 4
    assert oracle.score(Question("Where is the red card?"), index, backbone) is None


POOLINGS = ("mean_tokens", "cls_token", "max_tokens")


@pytest.mark.parametrize("pooling", [None, *POOLINGS])
@torch.no_grad()
def test_a_sentence_encoder_scores_by_cosine(tmp_path, source, backbone, pooling):
    folder = save_sentence_encoder(tmp_path / "encoder")
    if pooling:
        modes = {f"pooling_mode_{mode}": mode == pooling for mode in POOLINGS}
        write(folder / "1_Pooling", "config.json", modes | {"word_embedding_dimension": 32})
    oracle, said = Subtitles(encoder=str(folder)), beside(source, tmp_path, talk_srt=SRT)
    if pooling == "max_tokens":
        with pytest.raises(
            X2LError, match=r"^oracle.encoder: .*expected the mean of the tokens or the first"
        ):
            oracle.prepare(said[0], backbone)
        return
    network = BertModel.from_pretrained(folder, add_pooling_layer=False)
    vocabulary = save_bert_tokenizer(folder)

    def embedded(*words):
        ids = [vocabulary.get(word, 1) for word in ("[CLS]", *words, "[SEP]")]
        tokens = network(torch.tensor([ids])).last_hidden_state[0]
        return normalize(tokens[0] if pooling == "cls_token" else tokens.mean(dim=0), dim=-1)

    star = embedded("a", "star", ",", "a", "star", "&", "a", "moon", ".")
    red = embedded("hello", ",", "everybody", "!", "the", "red", "card", "is", "here", ".")
    index = index_of(backbone, Identity(), said, oracles=(oracle,))
    scores = oracle.score(Question("Is the star a colour?"), index, backbone)
    likeness = torch.stack([red, star, star]) @ embedded("is", "the", "star", "a", "colour", "?")
    torch.testing.assert_close(scores[:3], likeness, atol=1e-5, rtol=0)
    assert scores[3] == -1  # nothing is said


def test_an_index_on_disk_is_asked_without_the_file(tmp_path, backbone):
    """From footage beside its subtitles to the plan."""
    words = tmp_path / "talk.srt"
    words.write_text("1\n00:00:04,500 --> 00:00:05,500\nwhere the zebra was\n")
    frames = np.random.default_rng(0).integers(0, 256, (8, 40, 48, 3), dtype=np.uint8)
    footage = stills_of(frames, np.arange(8), str(tmp_path / "talk.mp4"))
    pipeline = Pipeline(backbone, Identity(), Subtitles(), TopK(1), ratios=(1, 4), chunker=Fixed(2))
    store.save(pipeline.index(footage), tmp_path / "index")
    words.unlink()
    plan = pipeline.plan(Question("Do you see the zebra?"), store.load(tmp_path / "index"))
    assert plan.ratios == (4, 4, 1, 4)
