"""A tiny random Video-XL with the needle tokenizer, a Video-XL-2, and chunks and indices made with it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from stock_models import FOLDER
from transformers import AutoTokenizer

from x2l.backbones.video_xl import VideoXL
from x2l.backbones.video_xl_2 import VideoXL2
from x2l.interfaces import Backbone, Compressor, Oracle
from x2l.needles.dataset import write_dataset
from x2l.needles.vocabulary import build_tokenizer
from x2l.networks.video_xl import VideoXLConfig, VideoXLForCausalLM
from x2l.networks.video_xl_2 import VideoXL2Config, VideoXL2ForCausalLM
from x2l.types import KV, Chunk, ChunkKV, Clip, Geometry, IndexSpec, Question, VideoIndex

TOKENS_PER_FRAME = 4
QUESTION = Question("What colour is the card?", gold_spans_s=((4.0, 6.0),))

TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.15,  # large enough that attention is far from uniform
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "hidden_act": "quick_gelu",
    },
}

VIDEO_XL_2 = {name: value for name, value in TINY.items() if name != "vision_config"} | {
    "vision_config": {
        "hidden_size": 32,  # as many as the auto-encoder's norms have groups
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "sae_grid_size": 4,
}


def tiny_backbone(seed: int = 0, dtype: torch.dtype = torch.float32, **config) -> VideoXL:
    """Random weights, biases too; 4 tokens per frame; `config` overrides the sizes of TINY."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = VideoXLForCausalLM(VideoXLConfig(**{"vocab_size": len(tokenizer), **TINY, **config}))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return VideoXL(model.to(dtype), tokenizer, identity=f"tiny-{seed}")


def tiny_video_xl_2(**config) -> VideoXL2:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "qwen2_5_vl")
    config = {**VIDEO_XL_2, "vocab_size": len(tokenizer), **config}
    model = VideoXL2ForCausalLM(VideoXL2Config(**config)).eval()
    for parameter in model.model.sae.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return VideoXL2(model, tokenizer, "tiny", block_groups=1, previous_blocks=1)


def save(backbone: VideoXL, folder) -> None:
    """As a checkpoint folder."""
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)


def small_video(folder: Path) -> Path:
    """A real file: four scenes of two seconds."""
    written = write_dataset(folder, 1, 3, 4, size=64, seconds_per_scene=2)
    return written / "videos" / "0000.mp4"


def clip(num_frames: int, fps: float = 1.0) -> Clip:
    """Frames of noise, larger than the tower's input and not square."""
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, 40, 48, 3), dtype=np.uint8)
    return Clip(frames, np.arange(num_frames) / fps)


@torch.no_grad()
def chunks(
    backbone: VideoXL, num_chunks: int = 4, frames_per_chunk: int = 5, ragged: bool = False
) -> list[Chunk]:
    """Consecutive chunks at 1 frame per second; `ragged`: the last one holds fewer frames."""
    num_frames = num_chunks * frames_per_chunk - (frames_per_chunk // 2 if ragged else 0)
    video = clip(num_frames)
    tokens = backbone.embed(video.frames, video.times_s)
    return [
        Chunk(
            index,
            video.times_s[start : start + frames_per_chunk],
            tokens[start * TOKENS_PER_FRAME : (start + frames_per_chunk) * TOKENS_PER_FRAME],
            video.frames[start : start + frames_per_chunk],
        )
        for index, start in enumerate(range(0, num_frames, frames_per_chunk))
    ]


def read(backbone: Backbone, clips: Iterable[Clip], position: int) -> Iterator[Chunk]:
    """Chunks as the pipeline makes them: they know where they stand."""
    for number, each in enumerate(clips):
        chunk = backbone.read(number, each, position)
        position = chunk.next_position
        yield chunk


@torch.no_grad()
def index_of_clips(backbone: Backbone, compressor: Compressor, clips: list[Clip], ratios) -> VideoIndex:
    """An index of consecutive clips, on any backbone."""
    prefix = backbone.begin(clips[0].video)
    encoded = tuple(compressor.encode(backbone, prefix, read(backbone, clips, prefix.num_tokens), ratios))
    return VideoIndex(prefix, encoded, IndexSpec(backbone.identity, backbone.geometry, {}, {}))


@torch.no_grad()
def read_chunks(backbone: VideoXL, num_chunks: int = 3, ragged: bool = False) -> list[Chunk]:
    """`chunks`, read by the backbone."""
    clips = (Clip(chunk.frames, chunk.times_s) for chunk in chunks(backbone, num_chunks, ragged=ragged))
    return list(read(backbone, clips, backbone.begin().num_tokens))


@torch.no_grad()
def encoded(
    backbone: VideoXL, compressor: Compressor, source: list[Chunk], ratios=(2, 8)
) -> tuple[ChunkKV, ...]:
    return tuple(compressor.encode(backbone, backbone.begin(), source, ratios))


@torch.no_grad()
def index_of(
    backbone: VideoXL,
    compressor: Compressor,
    source: list[Chunk] | None = None,
    ratios=(2, 8),
    oracles: tuple[Oracle, ...] = (),
) -> VideoIndex:
    """An index of `source` (4 ragged chunks by default) with the features of the oracles."""
    source = chunks(backbone, ragged=True) if source is None else source
    asked = [inner for oracle in oracles for inner in oracle.with_inner()]
    with_features = tuple(
        replace(chunk_kv, features={each.key: each.prepare(chunk, backbone) for each in asked})
        for chunk_kv, chunk in zip(encoded(backbone, compressor, source, ratios), source, strict=True)
    )
    spec = IndexSpec(backbone.identity, backbone.geometry, {}, {"name": "noise"})
    return VideoIndex(backbone.begin(), with_features, spec)


def bare_index(num_chunks: int, ratios=(2, 32), **video: str) -> VideoIndex:
    """Chunks of two frames and 2 s and one token of zeros: all that a selector looks at.

    video: the fingerprint of what they are said to be made from.
    """
    zero = torch.zeros(1, 1, 1, 1)
    kv = KV(zero, zero, zero.long())
    made = tuple(ChunkKV(i, 2.0 * i, 2.0 * i + 1, 2, 8, dict.fromkeys(ratios, kv)) for i in range(num_chunks))
    return VideoIndex(kv, made, IndexSpec("none", Geometry(1, 1, 1, 4, "float32"), {}, video))
