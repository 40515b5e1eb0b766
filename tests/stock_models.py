"""transformers' own video models at a tiny random size, on the processors that lie in tests/stock.

Those folders, and what the processors made of one video, are written by scripts/make_stock_fixtures.py.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoTokenizer

from x2l import registry
from x2l.types import Clip, Question, VideoFacts

FOLDER = Path(__file__).parent / "stock"
FPS = 1.0
QUESTION = Question("What is in frame 2?")
ANSWERED = "A red card."
MAX_VIDEO_TOKENS = {"qwen2_5_vl": 20, "qwen3_vl": 5}
"""Few enough that `cap_pixels_per_frame` makes the frames smaller."""

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,  # large enough that attention is far from uniform
}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True)
class Family:
    """How to make a tiny one: class of the configuration, its parts, and which tokens it names."""

    config: str
    text: dict[str, Any]
    vision: dict[str, Any]
    whole: dict[str, Any] = field(default_factory=dict)
    token_ids: dict[str, str] = field(default_factory=dict)


QWEN_TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
QWEN_TOWER = {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "depth": 2}
QWEN_TOWER |= {"patch_size": 4}

FAMILIES = {
    "qwen2_5_vl": Family(
        "Qwen2_5_VLConfig",
        TEXT | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}},
        QWEN_TOWER | {"tokens_per_second": 2, "window_size": 16, "fullatt_block_indexes": [1]},
        token_ids=QWEN_TOKENS,
    ),
    "qwen3_vl": Family(
        "Qwen3VLConfig",
        TEXT
        | {
            "head_dim": 8,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        QWEN_TOWER | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]},
        token_ids=QWEN_TOKENS,
    ),
    "llava_onevision": Family(
        "LlavaOnevisionConfig",
        TEXT | {"model_type": "qwen2"},
        TOWER
        | {
            "model_type": "siglip_vision_model",
            "image_size": 24,
            "patch_size": 4,
            "vision_use_head": False,
        },
        token_ids={"image_token_index": "<image>", "video_token_index": "<video>"},
    ),
    "internvl": Family(
        "InternVLConfig",
        TEXT | {"model_type": "qwen2"},
        TOWER | {"image_size": [16, 16], "patch_size": [4, 4]},
        whole={"image_seq_length": 4, "tie_word_embeddings": False},
        token_ids={"image_token_id": "<IMG_CONTEXT>"},
    ),
    "smolvlm": Family(
        "SmolVLMConfig",
        TEXT | {"model_type": "llama"},
        TOWER | {"image_size": 16, "patch_size": 4},
        whole={"scale_factor": 2},
        token_ids={"image_token_id": "<image>"},
    ),
}


def video(num_frames: int = 6) -> Clip:
    """Frames of noise at one per second, neither square nor a multiple of any patch."""
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, 26, 35, 3), dtype=np.uint8)
    facts = VideoFacts(num_frames, num_frames / FPS)
    return Clip(frames, np.arange(num_frames) / FPS, 0, facts)


def clips(frames_per_chunk: int, num_frames: int = 6) -> list[Clip]:
    """The video, cut."""
    whole = video(num_frames)
    return [
        Clip(whole.frames[part], whole.times_s[part], start, whole.video)
        for start in range(0, num_frames, frames_per_chunk)
        for part in [slice(start, start + frames_per_chunk)]
    ]


def read_and_seen(backbone, clip: Clip) -> tuple[list, torch.Tensor]:
    """The pieces that a backbone reads for a clip, and the pixels that its tower was given."""
    seen, model = [], backbone.model.model
    names = ("visual", "vision_tower", "vision_model")
    tower = next(getattr(model, name) for name in names if hasattr(model, name))
    hook = tower.register_forward_pre_hook(
        lambda module, given, named: seen.append(given[0] if given else named["pixel_values"]),
        with_kwargs=True,
    )
    pieces = list(backbone.pieces(clip))
    hook.remove()
    return pieces, seen[0]


def tiny_network(name: str, seed: int = 0) -> torch.nn.Module:
    family, tokenizer = FAMILIES[name], AutoTokenizer.from_pretrained(FOLDER / name)
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = getattr(transformers, family.config)(
        text_config=family.text | special | {"vocab_size": len(tokenizer)},
        vision_config=family.vision,
        **family.whole,
        **special,
        **{key: tokenizer.convert_tokens_to_ids(token) for key, token in family.token_ids.items()},
    )
    torch.manual_seed(seed)
    network = AutoModelForImageTextToText.from_config(config).eval()
    for parameter in network.parameters():
        if parameter.ndim == 1:  # biases and norms that would otherwise change nothing
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network


def checkpoint(name: str, folder: Path, seed: int = 0) -> Path:
    """A folder as a user would have downloaded it: the network, the tokenizer, the processor's settings."""
    for path in (FOLDER / name).iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    tiny_network(name, seed).save_pretrained(folder)
    return folder


def stock_backbone(name: str, folder: Path, **options):
    return registry.build("backbone", {"name": name, "model": str(checkpoint(name, folder)), **options})
