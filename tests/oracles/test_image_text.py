"""SigLIP 2 and BLIP from folders laid out as the hub's, against their stock classes fed by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from models import chunks, index_of
from oracle_checkpoints import (
    save_bert_tokenizer,
    save_blip,
    save_gemma_tokenizer,
    save_naflex,
    save_siglip_2,
)
from torch.nn.functional import normalize
from transformers import BlipForImageTextRetrieval, Siglip2Model, SiglipModel
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from x2l.compressors.identity import Identity
from x2l.oracles._image_text import load
from x2l.oracles.blip_itm import BlipITM
from x2l.oracles.dual_encoder import DualEncoder
from x2l.types import Question, X2LError

QUESTION = Question("Which number does the red star show?")
POOLS = {
    "mean": lambda scores: scores.mean(),
    "max": lambda scores: scores.max(),
    "top2_mean": lambda scores: scores.sort().values[-2:].mean(),
}


@pytest.fixture(scope="module")
def source(backbone):
    return chunks(backbone, ragged=True)


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    return save_blip(tmp_path_factory.mktemp("blip"))


def asked(oracle, source, backbone):
    index = index_of(backbone, Identity(), source, oracles=(oracle,))
    return oracle.score(QUESTION, index, backbone), index


def siglip_ids(vocabulary):
    """Lower case, a letter each, an end, and padding to 64."""
    ids = [vocabulary[letter] for letter in QUESTION.text.lower().replace(" ", "▁")] + [1]
    return torch.tensor([ids + [0] * (64 - len(ids))])


def blip_ids(vocabulary):
    words = QUESTION.text.lower().replace("?", " ?").split()
    return torch.tensor([[vocabulary[word] for word in ("[CLS]", *words, "[SEP]")]])


@pytest.mark.parametrize("pool", POOLS)
@torch.no_grad()
def test_siglip_2_of_a_fixed_size_scores_as_the_stock_class(tmp_path, source, backbone, pool):
    folder = save_siglip_2(tmp_path)
    network = SiglipModel.from_pretrained(folder)
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32}, resample=2)
    text = normalize(
        network.get_text_features(siglip_ids(save_gemma_tokenizer(tmp_path))).pooler_output, dim=-1
    )
    expected = []
    for chunk in source:
        pixels = processor(images=list(chunk.frames), return_tensors="pt")["pixel_values"]
        frames = normalize(network.get_image_features(pixels).pooler_output, dim=-1)
        expected.append(POOLS[pool]((frames @ text.T)[:, 0]))
    scores, index = asked(DualEncoder(str(folder), pool), source, backbone)
    torch.testing.assert_close(scores, torch.stack(expected), atol=1e-5, rtol=0)
    assert len(scores.unique()) == len(source)
    assert {stored["frames"].shape[1:] for chunk in index.chunks for stored in chunk.features.values()} == {
        (32,)
    }


@torch.no_grad()
def test_siglip_2_sees_frames_in_their_own_shape(tmp_path, source, backbone):
    """NaFlex: 24 patches of 8 x 8, in 4 rows and 5 columns for frames of 40 x 48."""
    folder = save_naflex(tmp_path)
    network = Siglip2Model.from_pretrained(folder)
    processor = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=24)
    text = normalize(
        network.get_text_features(siglip_ids(save_gemma_tokenizer(tmp_path))).pooler_output, dim=-1
    )
    expected = []
    for chunk in source:
        inputs = processor(images=list(chunk.frames), return_tensors="pt")
        assert inputs["spatial_shapes"].tolist() == [[4, 5]] * chunk.num_frames
        frames = normalize(network.get_image_features(**inputs).pooler_output, dim=-1)
        expected.append((frames @ text.T).mean())
    scores, _ = asked(DualEncoder(str(folder)), source, backbone)
    torch.testing.assert_close(scores, torch.stack(expected), atol=1e-5, rtol=0)
    assert len(scores.unique()) == len(source)


@pytest.mark.parametrize("head", ["contrastive", "matching"])
@torch.no_grad()
def test_blip_scores_as_the_stock_class(blip, source, backbone, head):
    network = BlipForImageTextRetrieval.from_pretrained(blip)
    processor = BlipImageProcessorPil(size={"height": 32, "width": 32})
    ids = blip_ids(save_bert_tokenizer(blip))
    expected = []
    for chunk in source:
        pixels = processor(images=list(chunk.frames), return_tensors="pt")["pixel_values"]
        logits = network(ids.expand(len(pixels), -1), pixels, use_itm_head=head == "matching").itm_score
        by_frame = logits.softmax(dim=-1)[:, 1] if head == "matching" else logits[:, 0]
        expected.append(by_frame.mean())
    oracle = BlipITM(str(blip)) if head == "matching" else DualEncoder(str(blip))
    scores, index = asked(oracle, source, backbone)
    torch.testing.assert_close(
        scores, torch.stack(expected), atol=1e-3 if head == "matching" else 1e-5, rtol=0
    )
    assert len(scores.unique()) == len(source)
    stored = index.chunks[0].features[oracle.key]["frames"]
    assert stored.shape == ((5, 17, 32) if head == "matching" else (5, 24))


@torch.no_grad()
def test_the_matching_head_is_asked_in_bounded_batches(blip, source, backbone, monkeypatch):
    oracle = BlipITM(str(blip), pool="max")
    scores, index = asked(oracle, source, backbone)
    monkeypatch.setattr("x2l.oracles.blip_itm.FRAMES_PER_BATCH", 2)
    torch.testing.assert_close(oracle.score(QUESTION, index, backbone), scores, atol=1e-6, rtol=0)


def test_the_matching_head_is_blips(tmp_path, source, backbone):
    with pytest.raises(X2LError, match=r"^oracle.model: .* its type is siglip, expected one of blip$"):
        BlipITM(str(save_siglip_2(tmp_path))).prepare(source[0], backbone)


def test_a_chunk_without_frames_is_one_clear_line(blip, source, backbone):
    with pytest.raises(X2LError, match=r"^oracle blip_itm: chunk 3 holds no frames"):
        BlipITM(str(blip)).prepare(replace(source[3], frames=None), backbone)


def test_a_long_question_is_cut(blip):
    """32 positions."""
    ids = load(str(blip), "cpu").ids("red star " * 40)
    assert ids.shape == (1, 32) and ids[0, -1] == save_bert_tokenizer(blip)["[SEP]"]
    assert np.isfinite(load(str(blip), "cpu").embed_text("red star " * 40).numpy()).all()
