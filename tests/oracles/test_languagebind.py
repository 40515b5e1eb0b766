"""LanguageBind from a folder laid out as the hub's, against a straight computation of its definition."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import chunks, index_of
from oracle_checkpoints import NUM_FRAMES, VISION, save_clip_tokenizer, save_languagebind
from safetensors.torch import load_file, save_file
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm, linear, normalize
from transformers import CLIPConfig, CLIPModel

from x2l.compressors.identity import Identity
from x2l.networks.languagebind import LanguageBindVideo
from x2l.oracles.languagebind import LanguageBind, clip_pixels, load, spread
from x2l.preprocessing.pixels import CLIP_MEAN, CLIP_STD
from x2l.types import Question, X2LError

QUESTION = Question("a red star")
WIDTH, HEADS = VISION["hidden_size"], VISION["num_attention_heads"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_languagebind(tmp_path_factory.mktemp("languagebind"))


@pytest.fixture(scope="module")
def source(backbone):
    return chunks(backbone, frames_per_chunk=10, ragged=True)


def attention(x, weights, name):
    """Multi-head attention of each row's tokens to each other."""
    q, k, v = (
        linear(x, weights[f"{name}.{part}_proj.weight"], weights[f"{name}.{part}_proj.bias"])
        .unflatten(-1, (HEADS, -1))
        .transpose(1, 2)
        for part in "qkv"
    )
    mixed = ((q @ k.transpose(-1, -2)) / (WIDTH / HEADS) ** 0.5).softmax(dim=-1) @ v
    joined = mixed.transpose(1, 2).flatten(2)
    return linear(joined, weights[f"{name}.out_proj.weight"], weights[f"{name}.out_proj.bias"])


def embedded(pixels, weights):
    """A clip [frames, 3, 32, 32] by the definition: first along time, then within each frame."""

    def norm(x, name):
        return layer_norm(x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def w(name):
        return weights[f"vision_model.{name}"]

    patches = conv2d(pixels, w("embeddings.patch_embedding.weight"), stride=8).flatten(2).transpose(1, 2)
    first = w("embeddings.class_embedding").expand(len(pixels), 1, -1)
    x = torch.cat([first, patches], dim=1) + w("embeddings.position_embedding.weight")
    x = norm(x, "vision_model.pre_layrnorm")
    for number in range(VISION["num_hidden_layers"]):
        layer = f"vision_model.encoder.layers.{number}"
        in_time = x.transpose(0, 1) + weights[f"{layer}.temporal_embedding"]
        in_time = in_time + attention(
            norm(in_time, f"{layer}.temporal_layer_norm1"), weights, f"{layer}.temporal_attn"
        )
        x = in_time.transpose(0, 1)
        x = x + attention(norm(x, f"{layer}.layer_norm1"), weights, f"{layer}.self_attn")
        y = norm(x, f"{layer}.layer_norm2")
        y = gelu(linear(y, weights[f"{layer}.mlp.fc1.weight"], weights[f"{layer}.mlp.fc1.bias"]))
        x = x + linear(y, weights[f"{layer}.mlp.fc2.weight"], weights[f"{layer}.mlp.fc2.bias"])
    frames = norm(x[:, 0], "vision_model.post_layernorm")
    return normalize(linear(frames.mean(dim=0), weights["visual_projection.weight"]), dim=-1)


def seen(frames):
    """Eight of the frames as the model sees them, from frames of 40 x 48."""
    chosen = torch.from_numpy(frames[[int(i) for i in np.linspace(0, len(frames) - 1, 8)]])
    scaled = interpolate(chosen.permute(0, 3, 1, 2) / 255, (32, 38), mode="bilinear", align_corners=False)
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    return (scaled[..., 3:35] - mean[:, None, None]) / std[:, None, None]


@torch.no_grad()
def test_scores_are_those_of_the_definition(folder, source, backbone):
    """The last chunk has 5 frames, which are repeated to 8."""
    weights = load_file(folder / "model.safetensors")
    text = CLIPModel(load(str(folder), "cpu").network.config)
    text.load_state_dict({name: weights[name] for name in text.state_dict()})
    vocabulary = save_clip_tokenizer(folder)
    names = ["<|startoftext|>", "a</w>", "red</w>", "s", "t", "a", "r</w>", "<|endoftext|>"]
    ids = torch.tensor([[vocabulary[name] for name in names]])
    asked = text.text_projection(text.eval().text_model(ids).last_hidden_state[:, -1])
    expected = torch.stack([embedded(seen(chunk.frames), weights) for chunk in source])
    oracle = LanguageBind(str(folder))
    index = index_of(backbone, Identity(), source, oracles=(oracle,))
    stored = torch.stack([chunk.features[oracle.key]["clip"] for chunk in index.chunks])
    torch.testing.assert_close(stored, expected, atol=1e-5, rtol=0)
    scores = oracle.score(QUESTION, index, backbone)
    torch.testing.assert_close(scores, expected @ normalize(asked, dim=-1)[0], atol=1e-5, rtol=0)
    assert len(source[-1].frames) == 5 and len(scores.unique()) == len(source)


@torch.no_grad()
def test_without_its_temporal_part_it_is_clips_mean_over_frames(folder, tmp_path, source):
    copy = save_languagebind(tmp_path)
    weights = load_file(copy / "model.safetensors")
    for name in weights:
        if name.endswith("temporal_embedding") or "temporal_attn.out_proj" in name:
            weights[name] = torch.zeros_like(weights[name])
    save_file(weights, copy / "model.safetensors")
    clip = CLIPModel(load(str(copy), "cpu").network.config).eval()
    clip.load_state_dict({name: weights[name] for name in clip.state_dict()})
    by_frame = clip.vision_model(pixel_values=seen(source[0].frames)).pooler_output
    expected = normalize(clip.visual_projection(by_frame.mean(dim=0)), dim=-1)
    made = load(str(copy), "cpu").embed_clip(source[0].frames)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)
    assert not torch.allclose(made, load(str(folder), "cpu").embed_clip(source[0].frames), atol=1e-3)


def test_at_its_size_it_has_as_many_weights_as_the_release():
    """CLIP ViT-L/14 and 101,007,360 weights of attention along time."""
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "image_size": 224}
    vision |= {"num_attention_heads": 16, "patch_size": 14}
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=768)
    with torch.device("meta"):
        network = LanguageBindVideo(config, NUM_FRAMES)
    assert network.num_parameters() == 427_616_513 + 101_007_360


def test_frames_are_spread_as_in_the_release():
    assert spread(10, NUM_FRAMES).tolist() == [0, 1, 2, 3, 5, 6, 7, 9]
    assert spread(3, NUM_FRAMES).tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    assert spread(1, NUM_FRAMES).tolist() == [0] * 8


@pytest.mark.parametrize(("height", "width"), [(48, 40), (32, 32), (20, 70)])
def test_the_centre_is_seen_unflipped(height, width):
    """A bright left half stays on the left, whatever the shape; twice is the same."""
    frames = np.zeros((8, height, width, 3), dtype=np.uint8)
    frames[:, :, : width // 2] = 255
    pixels = clip_pixels(frames, 32)
    assert pixels.shape == (1, 8, 3, 32, 32) and torch.equal(pixels, clip_pixels(frames, 32))
    assert (pixels[..., :14] > 1.8).all() and (pixels[..., 18:] < -1.4).all()


@torch.no_grad()
def test_texts_differ_though_the_stored_ids_are_wrong(folder):
    """With them, transformers would read every text off at its first token."""
    towers = load(str(folder), "cpu")
    assert json.loads((folder / "config.json").read_text())["text_config"]["eos_token_id"] == 1
    short, longer = towers.embed_text("a star"), towers.embed_text("a red star")
    assert (short - longer).abs().max() > 0.01
    cut = towers.ids("star " * 90)
    assert cut.shape == (1, 77) and cut[0, -1] == towers.network.config.text_config.vocab_size - 1


def changed(change):
    def break_it(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return break_it


def lacking(weights):
    del weights["vision_model.encoder.layers.1.temporal_attn.q_proj.bias"]


def adapted(weights):
    weights["vision_model.encoder.layers.0.self_attn.q_proj.lora_A.default.weight"] = torch.zeros(16, 32)


def tubes(weights):
    weights["vision_model.embeddings.patch_embedding.weight"] = torch.zeros(32, 3, 1, 8, 8)


def plain_clip(weights):
    for name in [name for name in weights if "temporal" in name]:
        del weights[name]


def pickled(folder):
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_tokenizer(folder):
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink()


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (
            changed(lacking),
            "it lacks 1 weights, such as vision_model.encoder.layers.1.temporal_attn.q_proj.bias",
        ),
        (
            changed(adapted),
            "it also holds 1 weights, such as vision_model.encoder.layers.0.self_attn.q_proj.lora_A",
        ),
        (changed(tubes), "its patches span several frames"),
        (changed(plain_clip), "it has no temporal attention"),
        (pickled, "it holds no safetensors (docs/oracles.md tells how to convert a published model)"),
        (without_tokenizer, "its tokenizer does not end a text"),
    ],
)
def test_a_wrong_checkpoint_is_one_line_that_names_the_field(tmp_path, source, backbone, break_it, reason):
    break_it(save_languagebind(tmp_path))
    with pytest.raises(X2LError) as caught:
        LanguageBind(str(tmp_path)).prepare(source[0], backbone)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"oracle.model: {tmp_path} cannot be loaded, ") and reason in line


def test_a_chunk_without_frames_is_one_clear_line(folder, source, backbone):
    with pytest.raises(X2LError, match=r"^oracle languagebind: chunk 0 holds no frames"):
        LanguageBind(str(folder)).prepare(replace(source[0], frames=None), backbone)


def test_the_class_of_transformers_would_drop_what_makes_it_a_video_model(folder, tmp_path):
    """Why it is loaded by hand."""
    config = CLIPConfig(**load(str(folder), "cpu").network.config.to_dict())
    config.save_pretrained(tmp_path)
    save_file(load_file(folder / "model.safetensors"), tmp_path / "model.safetensors", {"format": "pt"})
    _, report = CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert (
        all("temporal" in key for key in report["unexpected_keys"]) and len(report["unexpected_keys"]) == 22
    )
