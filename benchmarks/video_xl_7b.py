"""Video-XL-7B's geometry with random weights on a GPU: what Table 2 of Video-X^2L measures.

    python benchmarks/video_xl_7b.py --out benchmarks/video_xl_7b_h200.json
    python benchmarks/video_xl_7b.py --small --frames 20 --device cpu --dtype float32    # that it runs

Rows: uncompressed, uniform 2x, bi-level 2x/32x with three chunks in detail, by two passes and by one. For
each number of frames: seconds to embed and to pre-fill (and again in the same process, if that takes less
than 20 s), time to first token (assembly from host memory, question), milliseconds per decoded token,
launched and replayed (x2l.engine.replay; with the copy of the cache that an answer begins with, and whether
the tokens are the same), peak device memory while pre-filling and while answering. Medians of --turns
questions behind one that warms up.

Beside each of these stand, under `limits`, those of the work that has to be done at the device's own rates,
measured in the same run: to embed (FLOPs, counted by torch), to pre-fill and to read a question (FLOPs, as
`x2l estimate` counts them); to take the last chunk to host memory, and to assemble a cache (bytes that cross
to or from the device); to assemble it again from levels that were kept on the device (bytes that are copied
there); a token (bytes of weights and cache).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from x2l.backbones.video_xl import VideoXL
from x2l.cache import assemble, planned_levels
from x2l.compressors.identity import Identity
from x2l.compressors.vst import VST
from x2l.costs.counting import PaperRun
from x2l.host_memory import HostMemory
from x2l.interfaces import Compressor
from x2l.networks.video_xl import VideoXLConfig, VideoXLForCausalLM
from x2l.on_device import OnDevice
from x2l.pipeline.indexing import in_host_memory
from x2l.selectors.top_k import TopK
from x2l.types import KV, Chunk, ChunkKV, IndexSpec, Plan, VideoIndex
from x2l.verification.estimate import decoder_sizes

SIZES = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
}
SMALL = SIZES | {
    "vocab_size": 1000,
    "hidden_size": 112,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 336,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
    },
}
PROMPT_TOKENS, QUESTION_TOKENS, CHUNK_FRAMES = 14, 48, 10
SHORT_S = 20.0
"""What takes less is done again, without what the first of a process costs."""

ROWS: dict[str, tuple[Compressor, tuple[int, ...], int]] = {
    "uncompressed": (Identity(), (1,), 0),
    "uniform 2x": (VST(), (2,), 0),
    "bi-level 2x/32x, top 3": (VST(), (2, 32), 3),
    "... one pass, clustered": (VST(passes="clustered"), (2, 32), 3),
    "... one pass, joint, memory high": (VST(passes="joint", memory="high"), (2, 32), 3),
}
"""Compressor, ratios, and how many chunks are re-loaded in detail."""


class RandomVideoXL(VideoXL):
    """The engine without a tokenizer."""

    def begin(self, video=None) -> KV:
        return self._prefill(self.embed_ids(torch.arange(PROMPT_TOKENS)), memory=None)


@torch.no_grad()
def main() -> None:
    arguments = _arguments()
    torch.manual_seed(0)
    backbone = _backbone(arguments)
    rates = Rates.measured(backbone.device, backbone.model.dtype)
    measured = {
        str(frames): {
            row: _measure(backbone, rates, frames, *how, arguments)
            for row, how in tqdm(ROWS.items(), f"{frames} frames")
        }
        for frames in arguments.frames
    }
    report = {"figures": measured, "rates": asdict(rates), **_circumstances(arguments)}
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


@dataclass(frozen=True)
class Rates:
    """What the device can do: FLOPs a second, bytes a second that it copies, takes in and gives out."""

    flops: float
    copied: float
    taken: float
    given: float

    @classmethod
    def measured(cls, device: torch.device, dtype: torch.dtype) -> Rates:
        side, num_bytes, on_gpu = (8192, 2**30, True) if device.type == "cuda" else (1024, 2**26, False)
        square = torch.ones(side, side, device=device, dtype=dtype)
        here, there = (torch.ones(num_bytes, dtype=torch.uint8, device=device) for _ in range(2))
        outside = torch.ones(num_bytes, dtype=torch.uint8, pin_memory=on_gpu)
        copies = (there, here), (there, outside), (outside, here)
        return cls(
            2 * side**3 / _repeated(lambda: square @ square, 10),
            *(num_bytes / _repeated(lambda to=to, x=x: to.copy_(x), 10) for to, x in copies),
        )


def _repeated(work: Callable[[], Any], turns: int) -> float:
    """Median seconds of one turn, behind one that warms up."""
    turns_s: list[float] = []
    for _ in range(turns + 1):
        seconds: dict[str, float] = {}
        with _timed(seconds, "turn"):
            work()
        turns_s.append(seconds["turn"])
    return median(turns_s[1:])


def _backbone(arguments) -> RandomVideoXL:
    config = VideoXLConfig(**(SMALL if arguments.small else SIZES))
    dtype, before = getattr(torch, arguments.dtype), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with torch.device(arguments.device):
        model = VideoXLForCausalLM(config)
    torch.set_default_dtype(before)
    model.set_attn_implementation("sdpa")
    return RandomVideoXL(model)


def _measure(
    backbone: VideoXL,
    rates: Rates,
    frames: int,
    compressor: Compressor,
    ratios: tuple[int, ...],
    k: int,
    arguments,
) -> dict[str, Any]:
    """One row: index a video of noise, then ask it."""
    host = HostMemory(backbone.device)
    seconds, index, last = _indexed(backbone, host, frames, compressor, ratios)
    prefill_peak = _peak(backbone)
    again = None
    if seconds["prefill"] < SHORT_S:
        again = _indexed(backbone, host, frames, compressor, ratios)[0]["prefill"]

    plan = TopK(k or 1).choose(torch.randn(len(index.chunks)), index)
    _reset_peak(backbone)
    turns = [_ask(backbone, index, plan, "eager", arguments) for _ in range(arguments.turns + 1)][1:]
    answer_peak = _peak(backbone)
    _reset_peak(backbone)
    replayed = [_ask(backbone, index, plan, "graph", arguments) for _ in range(arguments.turns + 1)][1:]
    replay_peak = _peak(backbone)
    full = index.num_visual_tokens
    kept = sum(index.planned_tokens(plan))
    moved = _moved(backbone, rates, index, plan, last, host, arguments.turns)
    computed = _limits_of_computing(backbone, rates, frames, compressor, ratios, PROMPT_TOKENS + kept)
    return {
        **moved,
        "embed_s": seconds["embed"],
        "prefill_s": seconds["prefill"],
        "prefill_again_s": again,
        "ttft_s": median(turn["ttft"] for turn in turns),
        "decode_ms_per_token": 1000 * median(turn["decode"] for turn in turns),
        "replayed_ms_per_token": 1000 * median(turn["decode"] for turn in replayed),
        "replayed_alike": replayed[0]["text"] == turns[0]["text"],
        "limits": {
            **moved["limits"],
            **computed,
            "ttft_s": moved["limits"]["assemble_s"] + computed["question_s"],
        },
        "prefill_peak_gb": prefill_peak,
        "answer_peak_gb": answer_peak,
        "replay_peak_gb": replay_peak,
        "kv_tokens": kept,
        "kv_tokens_full": full,
        "cache_reduction": 1 - kept / full,
        "index_gb": index.num_bytes / 1e9,
    }


def _indexed(
    backbone: VideoXL, host: HostMemory, frames: int, compressor: Compressor, ratios: tuple[int, ...]
) -> tuple[dict[str, float], VideoIndex, ChunkKV]:
    """Seconds to embed and to pre-fill, the index in host memory, and its last chunk on the device."""
    seconds, encoded = {"embed": 0.0}, []
    _reset_peak(backbone)
    with _timed(seconds, "prefill"):
        prefix = backbone.begin()
        chunks = compressor.encode(backbone, prefix, _embedded(backbone, frames, seconds), ratios)
        for last in chunks:
            encoded.append(in_host_memory(last, host))
        prefix = prefix.mapped(host.hold)
        host.wait()
    seconds["prefill"] -= seconds["embed"]
    return seconds, VideoIndex(prefix, tuple(encoded), IndexSpec("random", backbone.geometry, {}, {})), last


def _limits_of_computing(
    backbone: VideoXL,
    rates: Rates,
    frames: int,
    compressor: Compressor,
    ratios: tuple[int, ...],
    cached: int,
) -> dict[str, float]:
    """Counted FLOPs of pre-fill and question, and the bytes that a token reads, at the device's rates."""
    decoder = decoder_sizes(backbone)
    sizes = replace(VideoXL.sizes, decoder=decoder, prompt=PROMPT_TOKENS)
    run = PaperRun(sizes, compressor, ratios, CHUNK_FRAMES, backbone.geometry.dtype)
    read = decoder.read_per_token * backbone.model.dtype.itemsize + cached * backbone.geometry.bytes_per_token
    return {
        "prefill_s": run.count(frames).prefill_flops / rates.flops,
        "question_s": decoder.answer_flops(QUESTION_TOKENS, cached) / rates.flops,
        # A copy reads and writes.
        "decode_ms_per_token": 1000 * read / (2 * rates.copied),
    }


def _moved(
    backbone: VideoXL,
    rates: Rates,
    index: VideoIndex,
    plan: Plan,
    last: ChunkKV,
    host: HostMemory,
    turns: int,
) -> dict[str, Any]:
    """Seconds of what moves bytes, and the limits of that and of embedding."""
    kept = OnDevice(backbone.device, index.num_bytes)

    def give() -> None:
        for level in last.levels.values():
            level.mapped(host.copy)
        host.wait()

    def assemble_again() -> None:
        assemble(index, plan, backbone, levels=planned_levels(index, plan, kept.ready))

    given = sum(level.num_bytes for level in last.levels.values())
    cached = (PROMPT_TOKENS + sum(index.planned_tokens(plan))) * backbone.geometry.bytes_per_token
    num_frames = sum(chunk.num_frames for chunk in index.chunks)
    return {
        "to_host_s": _repeated(give, turns),
        "assemble_s": _repeated(lambda: assemble(index, plan, backbone), turns),
        "assemble_again_s": _repeated(assemble_again, turns),
        "limits": {
            "to_host_s": given / rates.given,
            "assemble_s": cached / rates.taken,
            "assemble_again_s": cached / rates.copied,
            "embed_s": num_frames * _flops_of_a_frame(backbone) / rates.flops,
        },
    }


def _flops_of_a_frame(backbone: VideoXL) -> float:
    with FlopCounterMode(display=False) as counter:
        next(_embedded(backbone, 1, {"embed": 0.0}))
    return counter.get_total_flops()


def _ask(backbone: VideoXL, index: VideoIndex, plan: Plan, decode: str, arguments) -> dict[str, Any]:
    """Seconds to the first token, and of each that is written behind it."""
    seconds: dict[str, float] = {}
    ids = torch.arange(QUESTION_TOKENS) % backbone.model.config.vocab_size
    with _timed(seconds, "ttft"):
        cache = assemble(index, plan, backbone)
        token = backbone.logits(ids, cache)[-1:].argmax(dim=-1)
    writing = {"max_new_tokens": arguments.tokens, "eos_token_id": -1, "decode": decode}
    with _timed(seconds, "decode"):
        text = backbone.generate_ids(token, cache, **writing)
    return seconds | {"decode": seconds["decode"] / arguments.tokens, "text": text.tolist()}


def _embedded(backbone: VideoXL, frames: int, seconds: dict[str, float]) -> Iterator[Chunk]:
    """Chunks of noise, embedded; the time that takes is noted apart."""
    noise = np.random.default_rng(0).integers(0, 256, (CHUNK_FRAMES, 336, 336, 3), dtype=np.uint8)
    for index, start in enumerate(range(0, frames, CHUNK_FRAMES)):
        num_frames, part = min(CHUNK_FRAMES, frames - start), {}
        pictures = noise[:num_frames]
        times_s = np.arange(float(num_frames))
        with _timed(part, "embed"):
            tokens = backbone.embed(pictures, times_s)
        seconds["embed"] += part["embed"]
        yield Chunk(index, times_s, tokens)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Seconds of a block, with the device's work done, under a name."""
    _wait()
    start = time.perf_counter()
    yield
    _wait()
    seconds[name] = time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _reset_peak(backbone: VideoXL) -> None:
    if backbone.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(backbone.device)


def _peak(backbone: VideoXL) -> float | None:
    on_gpu = backbone.device.type == "cuda"
    return torch.cuda.max_memory_allocated(backbone.device) / 1e9 if on_gpu else None


def _circumstances(arguments) -> dict:
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if arguments.device.startswith("cuda") else arguments.device,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sizes": SMALL if arguments.small else SIZES,
        **{key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--frames", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--turns", type=int, default=5, help="questions per row, behind one that warms up")
    parser.add_argument("--tokens", type=int, default=16, help="decoded tokens per question")
    parser.add_argument("--small", action="store_true", help="a small model, to see that it runs")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
