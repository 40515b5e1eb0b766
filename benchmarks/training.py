"""Memory and time of a post-training step against the length of the video, chunks recomputed or kept.

    python benchmarks/training.py --out benchmarks/training_cpu                    # x2l-tiny
    python benchmarks/training.py --geometry 7b --device cuda --dtype bfloat16 --out benchmarks/training_h200

One step: encode at 2x and 32x, three chunks in detail, one question, the loss, its gradient, AdamW. Each
length is measured in a process of its own. Memory is the peak of the process, on a GPU that of the allocator;
step_gb is how far it exceeds what was in use in front of the first step. x2l-tiny trains its language model
and its VSTs, 7B (random weights) low-rank adapters on both. Figure and table show times as multiples of the
shortest video's, because seconds on a shared machine mean little; the JSON file has those, too.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import lightning
import numpy as np
import psutil
import torch
from matplotlib.figure import Figure
from tqdm import tqdm
from video_xl_7b import SIZES, SMALL

from x2l.backbones.video_xl import VideoXL
from x2l.backbones.x2l_tiny import X2LTiny
from x2l.compressors.vst import VST
from x2l.evaluation.figures import style
from x2l.evaluation.table import markdown
from x2l.networks.video_xl import VideoXLConfig, VideoXLForCausalLM
from x2l.oracles.attention import AttentionScore
from x2l.pipeline import Pipeline
from x2l.selectors.last_n import LastN
from x2l.training.qa_data import VideoQA
from x2l.training.trainable import LoRA, trained_weights
from x2l.training.x2l_module import X2LModule
from x2l.types import Clip, Question, VideoFacts

CHUNK_FRAMES = 10
QUESTION = Question("Which digit is on the red star?", answer="7")
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "beacon_q_proj", "beacon_k_proj", "beacon_v_proj"]


class WithoutTokenizer(VideoXL):
    """Random weights read random words."""

    def encode_text(self, text: str) -> torch.Tensor:
        return torch.arange(len(text.split()) + 2, device=self.device)

    def encode_answer(self, text: str) -> torch.Tensor:
        return self.encode_text(text)


def main() -> None:
    arguments = _arguments()
    if arguments.one:
        print(json.dumps(_measure(arguments, arguments.frames[0], arguments.one == "recomputed")))
        return
    rows = []
    for kept in ("recomputed", "kept"):
        for frames in tqdm(sorted(arguments.frames), kept):
            if kept == "recomputed" or frames <= arguments.max_kept:
                rows.append({"frames": frames, "chunks": kept, **_in_a_process(frames, kept)})
    report = {"figures": rows, **_circumstances(arguments)}
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        arguments.out.with_suffix(".md").write_text(_table(rows))
        with style.applied():
            style.save(_figure(rows), arguments.out.parent, arguments.out.name)


def _in_a_process(frames: int, kept: str) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--one", kept, "--frames", str(frames)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _measure(arguments, frames: int, recompute: bool) -> dict[str, float]:
    """Three steps: the first warms up, the others are timed."""
    lightning.seed_everything(0, verbose=False)
    is_tiny = arguments.geometry == "tiny"
    backbone = X2LTiny.from_pretrained(dtype=arguments.dtype) if is_tiny else _random(arguments)
    pipeline = Pipeline(backbone, VST(), AttentionScore(), LastN(3))
    trains = ["vst", "language_model"] if is_tiny else ["lora"]
    module = X2LModule(pipeline, trains, LoRA(targets=TARGETS), recompute=recompute).to(arguments.device)
    optimizer = torch.optim.AdamW(trained_weights(module).values(), 1e-5)
    batch, seconds = _video(frames, backbone.model.config.vision.image_size), []
    held = _held_bytes(arguments.device)
    for _ in range(3):
        start = time.perf_counter()
        loss = module.answer(batch).report()["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if arguments.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        assert torch.isfinite(loss), f"{frames} frames: the loss is {loss.item()}"
    peak = _peak_bytes(arguments.device)
    return {"step_s": min(seconds[1:]), "step_gb": (peak - held) / 1e9, "peak_gb": peak / 1e9}


def _random(arguments) -> WithoutTokenizer:
    config, before = VideoXLConfig(**(SMALL if arguments.small else SIZES)), torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, arguments.dtype))
    with torch.device(arguments.device):
        model = VideoXLForCausalLM(config)
    torch.set_default_dtype(before)
    model.set_attn_implementation("sdpa")
    return WithoutTokenizer(model)


def _video(frames: int, size: int) -> VideoQA:
    noise, facts = np.random.default_rng(0), VideoFacts(frames, float(frames))
    clips = tuple(
        Clip(noise.integers(0, 256, (len(times), size, size, 3), dtype=np.uint8), times, int(times[0]), facts)
        for times in np.split(np.arange(float(frames)), range(CHUNK_FRAMES, frames, CHUNK_FRAMES))
    )
    return VideoQA("noise", 0, clips, CHUNK_FRAMES, facts, {"name": "noise"}, (QUESTION,))


def _held_bytes(device: str) -> int:
    """Memory in use now; from here on the peak is counted anew where that can be."""
    if not device.startswith("cuda"):
        return psutil.Process().memory_info().rss
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _table(rows: list[dict]) -> str:
    """Markdown: a line for each length."""
    shortest = rows[0]["step_s"]
    figures = {(row["frames"], row["chunks"]): row for row in rows}
    head = ["frames", "GB for a step, chunks recomputed", "... kept", "time, chunks recomputed", "... kept"]
    lines = []
    for frames in sorted({row["frames"] for row in rows}):
        each = [figures.get((frames, kept)) for kept in ("recomputed", "kept")]
        memory = [f"{row['step_gb']:.2f}" if row else "" for row in each]
        times = [f"{row['step_s'] / shortest:.1f}x" if row else "" for row in each]
        lines.append([f"{frames:,}", *memory, *times])
    return "\n".join(markdown(head, lines)) + "\n"


def _figure(rows: list[dict]) -> Figure:
    figure = Figure(figsize=(style.WIDTH, 3))
    scales = {"step_gb": 1.0, "step_s": rows[0]["step_s"]}
    labels = ("GB for a step", "time of a step (shortest video = 1)")
    for panel, (key, scale), label in zip(figure.subplots(1, 2), scales.items(), labels, strict=True):
        for kept, colour in zip(("recomputed", "kept"), style.COLOURS, strict=False):
            of_kind = [row for row in rows if row["chunks"] == kept]
            frames, values = ([row[name] for row in of_kind] for name in ("frames", key))
            panel.plot(frames, np.divide(values, scale), "o-", color=colour, label=f"chunks {kept}")
        panel.set(xlabel="frames", ylabel=label, xscale="log", yscale="log")
        panel.legend(frameon=False)
    return figure


def _circumstances(arguments) -> dict:
    on_gpu = arguments.device.startswith("cuda")
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if on_gpu else f"{platform.machine()} cpu",
        "threads": torch.get_num_threads(),
        "geometry": arguments.geometry,
        "dtype": arguments.dtype,
        "torch": torch.__version__,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--max-kept", type=int, default=512, help="longest video whose chunks are kept")
    parser.add_argument("--geometry", choices=["tiny", "7b"], default="tiny")
    parser.add_argument("--small", action="store_true", help="7b with few and narrow layers: that it runs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path, help="without suffix; .json, .md, .png and .svg are added")
    parser.add_argument("--one", choices=["recomputed", "kept"], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
