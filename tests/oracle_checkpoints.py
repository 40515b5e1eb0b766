"""Small random checkpoints of the models that oracles read, laid out as on the hub."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPConfig,
    PreTrainedModel,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)

from x2l.networks.languagebind import LanguageBindVideo

WORDS = ("which", "number", "does", "the", "red", "star", "show", "?", "what", "colour", "is", "card", "a")
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TOWER | {"image_size": 32, "patch_size": 8}
NUM_FRAMES = 8


def write(folder: Path, name: str, data) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))


def save(network: PreTrainedModel, folder: Path, seed: int) -> None:
    """With random weights that are far from 0, biases too."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.15)
    network.save_pretrained(folder)


def save_gemma_tokenizer(folder: Path) -> dict[str, int]:
    """SigLIP 2's is Gemma's: it leaves the case alone and ends a text. Without merges a token is a letter."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *"▁?abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {name: number for number, name in enumerate(names)}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    core.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    settings = {
        "add_bos_token": False,
        "add_eos_token": True,
        "padding_side": "right",
        "model_max_length": 64,
    }
    settings |= {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    write(folder, "tokenizer.json", core.to_str())
    write(folder, "tokenizer_config.json", settings | {"tokenizer_class": "GemmaTokenizer"})
    return vocabulary


def save_siglip_2(folder: Path, seed: int = 0) -> Path:
    """One of a fixed size: SigLIP's classes and another tokenizer."""
    vocabulary = save_gemma_tokenizer(folder)
    text = TOWER | {"vocab_size": len(vocabulary), "max_position_embeddings": 64}
    save(SiglipModel(SiglipConfig(text_config=text, vision_config=VISION)), folder, seed)
    settings = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 32, "width": 32}}
    settings |= {"resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255}
    write(folder, "preprocessor_config.json", settings)
    return folder


def save_naflex(folder: Path, seed: int = 0) -> Path:
    """SigLIP 2 for frames of any shape."""
    vocabulary = save_gemma_tokenizer(folder)
    text = TOWER | {"vocab_size": len(vocabulary), "max_position_embeddings": 64}
    vision = TOWER | {"patch_size": 8, "num_patches": 16}
    save(Siglip2Model(Siglip2Config(text_config=text, vision_config=vision)), folder, seed)
    settings = {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 8, "max_num_patches": 24}
    write(folder, "preprocessor_config.json", settings | {"resample": 2})
    return folder


def save_bert_tokenizer(folder: Path) -> dict[str, int]:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    write(folder, "vocab.txt", "\n".join(names) + "\n")
    write(folder, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    return {name: number for number, name in enumerate(names)}


def save_blip(folder: Path, seed: int = 0) -> Path:
    """An image-text retrieval model; as old files do, it holds a buffer besides."""
    vocabulary = save_bert_tokenizer(folder)
    text = TOWER | {"vocab_size": len(vocabulary), "max_position_embeddings": 32, "encoder_hidden_size": 32}
    config = BlipConfig(text_config=text, vision_config=VISION, image_text_hidden_size=24)
    save(BlipForImageTextRetrieval(config), folder, seed)
    weights = load_file(folder / "model.safetensors")
    weights["text_encoder.embeddings.position_ids"] = torch.arange(32)[None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {"image_processor_type": "BlipImageProcessor", "size": {"height": 32, "width": 32}}
    write(folder, "preprocessor_config.json", settings | {"resample": 3})
    return folder


def save_clip_tokenizer(folder: Path) -> dict[str, int]:
    """CLIP's byte pairs, without any merge but that of "red"."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in shown] + [chr(256 + i) for i in range(256 - len(shown))]
    names = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>"]
    names += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: number for number, name in enumerate(names)}
    write(folder, "vocab.json", vocabulary)
    write(folder, "merges.txt", "#version: 0.2\nr e\nre d</w>\n")
    settings = {f"{name}_token": "<|endoftext|>" for name in ("eos", "pad", "unk")}
    settings |= {"bos_token": "<|startoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    write(folder, "tokenizer_config.json", settings)
    return vocabulary


def save_languagebind(folder: Path, seed: int = 0) -> Path:
    """Under the names and with the wrong token ids of the published files."""
    vocabulary = save_clip_tokenizer(folder)
    text = TOWER | {"vocab_size": len(vocabulary), "max_position_embeddings": 77, "hidden_act": "gelu"}
    vision = VISION | {"hidden_act": "gelu"}
    network = LanguageBindVideo(CLIPConfig(text_config=text, vision_config=vision), NUM_FRAMES)
    save(network, folder, seed)
    weights = load_file(folder / "model.safetensors")
    weights["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ids = {"bos_token_id": 0, "eos_token_id": 1, "torch_dtype": None, "return_dict": True}
    video = {"num_frames": NUM_FRAMES, "add_time_attn": True, "lora_r": 0, "video_decode_backend": "decord"}
    config = {"model_type": "LanguageBindVideo", "architectures": ["CLIPModel"], "projection_dim": 512}
    write(folder, "config.json", config | {"text_config": text | ids, "vision_config": vision | video})
    return folder


def save_sentence_encoder(folder: Path, seed: int = 0) -> Path:
    vocabulary = save_bert_tokenizer(folder)
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=16, **TOWER)
    save(BertModel(config, add_pooling_layer=False), folder, seed)
    return folder
