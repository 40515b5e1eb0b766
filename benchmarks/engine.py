"""What the engine costs beside plain transformers and beside what the machine can do.

    python benchmarks/engine.py --chunks 2 --out benchmarks/engine_cpu.json

Both sides run in turns in one process on one thread, so that a noisy machine hits both alike; figures are
medians (of CPU time, without a GPU), and ratios are medians of the ratios of neighbouring turns. Weights are
random: 8 layers, width 512.

`limit_s` is the work that has to be done at the machine's own rates, measured in the same run: FLOPs at that
of a product of two 1024 x 1024 matrices; of a token, bytes of weights and cache at that of a sum of 400 MB.

Plain side of the pre-fill: Qwen2Model without lm_head, given as many embeddings per chunk (raw tokens and
VSTs) on a ready DynamicCache of the same memory length. Plain side of decoding: Qwen2ForCausalLM on a cache
of equal length. One pass for all levels is compared with a pass for each, a weighed cache with one that is
not. A question is assembled and read; its plain side finds a cache of equal length ready.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers
from tqdm import tqdm
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from x2l.backbones.video_xl import VideoXL
from x2l.cache import FilledCache, assemble
from x2l.compressors.vst import VST
from x2l.costs.flops import DecoderSizes
from x2l.networks.qwen2_vst import VSTConfig, VSTForCausalLM
from x2l.proportional import Proportional
from x2l.types import KV, Chunk, IndexSpec, Plan, VideoIndex

ONE_PASS = {
    "joint_low": VST(edge_ratio=None, passes="joint"),
    "joint_high": VST(edge_ratio=None, passes="joint", memory="high"),
    "pooled": VST(edge_ratio=None, passes="pooled"),
    "clustered": VST(edge_ratio=None, passes="clustered"),
}
SIZES = {
    "vocab_size": 1000,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
DECODER = DecoderSizes(512, 2048, 8, 8, 2, 64, 1000)
CHUNK_TOKENS = 1440
PREFIX_TOKENS, QUESTION_TOKENS = 14, 40


class RandomVideoXL(VideoXL):
    """The engine without vision and tokenizer."""

    def begin(self) -> KV:
        return self._prefill(self.embed_ids(torch.arange(PREFIX_TOKENS)), memory=None)


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    backbone = RandomVideoXL(VSTForCausalLM(VSTConfig(**SIZES)).to(device, dtype))
    plain = Qwen2ForCausalLM(Qwen2Config(**SIZES)).to(device, dtype).eval()
    with torch.no_grad():
        rates = Rates.measured(device, dtype)
        figures = {
            **{f"prefill_{ratio}x": prefill(backbone, plain, ratio, rates, arguments) for ratio in (2, 32)},
            **{f"one_pass_{name}": one_pass(backbone, vst, arguments) for name, vst in ONE_PASS.items()},
            "question": question(backbone, plain, rates, arguments),
            "decode": decode(backbone, plain, rates, arguments),
            "decode_weighed": decode_weighed(backbone, arguments),
            "assemble": assembly(backbone, arguments),
        }
    report = {"figures": figures, "rates": asdict(rates), **_circumstances(arguments)}
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


@dataclass(frozen=True)
class Rates:
    """What the machine can do: FLOPs a second, bytes read a second."""

    flops: float
    bytes: float

    @classmethod
    def measured(cls, device: torch.device, dtype: torch.dtype) -> Rates:
        square, row = (torch.ones(size, device=device, dtype=dtype) for size in ((1024, 1024), (10**8,)))
        multiply, read = (
            min(_timed(work, device) for _ in range(10)) for work in (lambda: square @ square, row.sum)
        )
        return cls(2 * 1024**3 / multiply, row.nbytes / read)


def _beside(limit_s: float, figures: dict[str, float]) -> dict[str, float]:
    return figures | {"limit_s": limit_s, "of_limit": figures["ours_s"] / limit_s}


def prefill(
    backbone: VideoXL, plain: Qwen2ForCausalLM, ratio: int, rates: Rates, arguments
) -> dict[str, float]:
    """One pass over the video at one ratio, all chunks, against the same number of embeddings."""
    video = torch.randn(arguments.chunks * CHUNK_TOKENS, SIZES["hidden_size"]).to(backbone.model.dtype)
    chunks = [
        Chunk(i, np.arange(10.0), tokens)
        for i, tokens in enumerate(video.to(backbone.device).split(CHUNK_TOKENS))
    ]
    compressor, prefix = VST(edge_ratio=None), backbone.begin()
    num_vsts = CHUNK_TOKENS // ratio
    embeds = torch.randn(1, CHUNK_TOKENS + num_vsts, SIZES["hidden_size"]).to(video).to(backbone.device)
    memories = [_random_cache(plain, PREFIX_TOKENS + i * num_vsts) for i in range(arguments.chunks)]

    def ours() -> None:
        list(compressor.encode(backbone, prefix, chunks, (ratio,)))

    def theirs() -> None:
        for memory in memories:
            plain.model(inputs_embeds=embeds, past_key_values=memory, use_cache=True)
            memory.crop(-embeds.shape[1])

    rows = CHUNK_TOKENS + num_vsts
    unseen = (DECODER.layers - 1) * DECODER.attention_flops(rows, rows) // 2  # a chunk is causal
    flops = sum(
        DECODER.prefill_flops(rows, PREFIX_TOKENS + i * num_vsts, num_vsts) - unseen
        for i in range(arguments.chunks)
    )
    return _beside(flops / rates.flops, _compare(ours, theirs, arguments, f"prefill {ratio}x"))


def one_pass(backbone: VideoXL, compressor: VST, arguments) -> dict[str, float]:
    """All levels in one pass, against a pass for each."""
    tokens = torch.randn(arguments.chunks * CHUNK_TOKENS, SIZES["hidden_size"])
    parts = tokens.to(backbone.device, backbone.model.dtype).split(CHUNK_TOKENS)
    chunks = [Chunk(i, np.arange(10.0), part) for i, part in enumerate(parts)]
    prefix = backbone.begin()

    def encode(vst: VST) -> None:
        list(vst.encode(backbone, prefix, chunks, (2, 32)))

    two = VST(edge_ratio=None)
    return _compare(lambda: encode(compressor), lambda: encode(two), arguments, "one pass")


def decode_weighed(backbone: VideoXL, arguments) -> dict[str, float]:
    """One new token behind a cache with a bias, and behind the same without."""
    index, weighing = _random_index(backbone, arguments.chunks), backbone.weighing(Proportional(1.0))
    plan = Plan((2, *[32] * (arguments.chunks - 1)))
    token = torch.zeros(1, dtype=torch.long, device=backbone.device)

    def step(reader: VideoXL, memory: FilledCache) -> None:
        for _ in range(arguments.tokens):
            reader.logits(token, memory)
        memory.crop(-arguments.tokens)

    weighed, plain = assemble(index, plan, weighing), assemble(index, plan, backbone)
    figures = _compare(lambda: step(weighing, weighed), lambda: step(backbone, plain), arguments, "weighed")
    return figures | {"kv_tokens": weighed.get_seq_length(), "tokens_per_turn": arguments.tokens}


def question(backbone: VideoXL, plain: Qwen2ForCausalLM, rates: Rates, arguments) -> dict[str, float]:
    """Time to the first token: assembly, and a question that is read behind it."""
    index, plan = _random_index(backbone, arguments.chunks), Plan((2,) * arguments.chunks)
    ids = torch.arange(QUESTION_TOKENS, device=backbone.device)
    num_tokens = assemble(index, plan, backbone).get_seq_length()
    cache = _random_cache(plain, num_tokens)

    def theirs() -> None:
        plain(input_ids=ids[None], past_key_values=cache, use_cache=True)
        cache.crop(-QUESTION_TOKENS)

    figures = _compare(
        lambda: backbone.logits(ids, assemble(index, plan, backbone)), theirs, arguments, "question"
    )
    limit_s = DECODER.answer_flops(QUESTION_TOKENS, num_tokens) / rates.flops
    return _beside(limit_s, figures) | {"kv_tokens": num_tokens, "question_tokens": QUESTION_TOKENS}


def decode(backbone: VideoXL, plain: Qwen2ForCausalLM, rates: Rates, arguments) -> dict[str, float]:
    """New tokens behind an assembled cache and behind a plain one of equal length."""
    index = _random_index(backbone, arguments.chunks)
    plan = Plan((2,) * arguments.chunks)
    hybrid = assemble(index, plan, backbone)
    cache = _random_cache(plain, hybrid.get_seq_length())
    token = torch.zeros(1, 1, dtype=torch.long, device=backbone.device)

    def step(model, memory) -> None:
        for _ in range(arguments.tokens):
            model(input_ids=token, past_key_values=memory, use_cache=True)
        memory.crop(-arguments.tokens)

    figures = _compare(lambda: step(backbone.model, hybrid), lambda: step(plain, cache), arguments, "decode")
    num_tokens, dtype = hybrid.get_seq_length(), backbone.model.dtype
    weights = DECODER.read_per_token * dtype.itemsize
    limit_s = (weights + num_tokens * backbone.geometry.bytes_per_token) * arguments.tokens / rates.bytes
    return _beside(limit_s, figures) | {"kv_tokens": num_tokens, "tokens_per_turn": arguments.tokens}


def assembly(backbone: VideoXL, arguments) -> dict[str, float]:
    """From a plan to a cache that generate() takes, against a clone of as many bytes."""
    index = _random_index(backbone, arguments.chunks)
    plan = Plan((2,) * arguments.chunks)
    num_tokens = assemble(index, plan, backbone).get_seq_length()
    cached = torch.zeros(
        num_tokens * backbone.geometry.bytes_per_token, dtype=torch.uint8, device=backbone.device
    )
    figures = _compare(lambda: assemble(index, plan, backbone), cached.clone, arguments, "assemble")
    return figures | {"ms_per_1000_kv_tokens": 1e6 * figures["ours_s"] / num_tokens, "kv_tokens": num_tokens}


def _compare(ours: Callable, theirs: Callable, arguments, name: str) -> dict[str, float]:
    device = torch.device(arguments.device)
    ours(), theirs()
    turns = [
        (_timed(ours, device), _timed(theirs, device)) for _ in tqdm(range(arguments.turns), name, delay=1)
    ]
    return {
        "ratio": median(mine / other for mine, other in turns),
        "ours_s": median(mine for mine, _ in turns),
        "plain_s": median(other for _, other in turns),
    }


def _timed(work: Callable, device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    _wait_for(device)
    start = clock()
    work()
    _wait_for(device)
    return clock() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _random_cache(plain: Qwen2ForCausalLM, num_tokens: int) -> DynamicCache:
    shape = (
        1,
        SIZES["num_key_value_heads"],
        num_tokens,
        SIZES["hidden_size"] // SIZES["num_attention_heads"],
    )
    pairs = [(torch.randn(shape), torch.randn(shape)) for _ in range(SIZES["num_hidden_layers"])]
    return DynamicCache(
        [(k.to(plain.device, plain.dtype), v.to(plain.device, plain.dtype)) for k, v in pairs]
    )


def _random_index(backbone: VideoXL, num_chunks: int) -> VideoIndex:
    tokens = torch.randn(CHUNK_TOKENS, SIZES["hidden_size"]).to(backbone.device, backbone.model.dtype)
    chunks = (Chunk(i, np.arange(10.0), tokens) for i in range(num_chunks))
    prefix = backbone.begin()
    encoded = tuple(VST(edge_ratio=None).encode(backbone, prefix, chunks, (2, 32)))
    return VideoIndex(prefix, encoded, IndexSpec("random", backbone.geometry, {}, {}))


def _circumstances(arguments) -> dict:
    gpu = torch.cuda.get_device_name() if arguments.device == "cuda" else None
    return {
        "date": date.today().isoformat(),
        "device": gpu or platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sizes": SIZES,
        **{key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--chunks", type=int, default=3, help="chunks of 1,440 tokens")
    parser.add_argument("--turns", type=int, default=5, help="repetitions of each side")
    parser.add_argument("--tokens", type=int, default=16, help="decoded tokens per turn")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
