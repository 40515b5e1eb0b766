"""Costs on paper against what tiny models really compute and hold."""

import json
import runpy
import weakref
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from models import TINY, chunks, index_of, read, read_chunks, tiny_backbone, tiny_video_xl_2
from stock_models import FAMILIES, clips, stock_backbone
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from x2l import registry
from x2l.cache import assemble
from x2l.cli import main
from x2l.cli.app import x2l
from x2l.compressors.identity import Identity
from x2l.compressors.low_resolution import LowResolution
from x2l.compressors.mean_pool import MeanPool
from x2l.compressors.vst import VST
from x2l.costs.counting import PaperRun
from x2l.costs.dry_run import dry_run
from x2l.costs.flops import DecoderSizes, TowerSizes, auto_encoder, mlp, paper_prefill_flops
from x2l.costs.paper import PaperBackbone
from x2l.costs.sizes import BackboneSizes
from x2l.engine.reading import ReadingBackbone
from x2l.interfaces import Backbone
from x2l.networks.auto_encoder import SpatioTemporalEncoder
from x2l.preprocessing.pixels import preprocess
from x2l.selectors.top_k import TopK
from x2l.types import Chunk, Plan, VideoFacts

VISION = TINY["vision_config"]
RATIOS = (2, 8)


def published_sizes(name: str) -> BackboneSizes:
    """Sizes of the published model that a shipped backbone is named after."""
    return registry.get("backbone", name).sizes


def decoder_sizes(config) -> DecoderSizes:
    return DecoderSizes(
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        config.vocab_size,
    )


def tiny_sizes(backbone) -> BackboneSizes:
    config = backbone.model.config
    return BackboneSizes(
        "tiny",
        decoder_sizes(config),
        TowerSizes(
            VISION["hidden_size"],
            VISION["intermediate_size"],
            backbone.model.model.vision_tower.num_layers,
            17,
            behind=mlp(VISION["hidden_size"], config.hidden_size, config.hidden_size),
        ),
        tokens_per_step=4,
        prompt=backbone.begin().num_tokens,
        vst=True,
        stops_early=True,
    )


def attention_flops(query, keys, values, *args, **kwargs) -> int:
    """Of shapes: scores and weighted values, each query with every key."""
    return 4 * prod(query) * keys[-2]


def counted(run) -> int:
    """FLOPs of matrix products, by torch's own counter, which is told what attention on a CPU costs."""
    kernels = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
    with FlopCounterMode(display=False, custom_mapping=kernels) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


PASSES = [
    VST(passes="joint"),
    VST(passes="joint", memory="high"),
    VST(passes="pooled"),
    VST(passes="clustered"),
]


@pytest.mark.parametrize(
    "compressor",
    [VST(), VST(edge_ratio=None), *PASSES],
    ids=["edges", "alike", "joint", "joint high", "pooled", "clustered"],
)
def test_pre_fill_flops_are_those_that_torch_counts(compressor, backbone):
    source, prefix = chunks(backbone, num_chunks=8, frames_per_chunk=10), backbone.begin()
    expected = counted(lambda: list(compressor.encode(backbone, prefix, source, RATIOS)))
    paper = PaperBackbone(tiny_sizes(backbone), "float32")
    drawn = (paper.chunk(i, 10 * i, 10) for i in range(8))
    list(compressor.encode(paper, paper.begin(), drawn, RATIOS))
    assert paper.flops == pytest.approx(expected, rel=0.05)


def test_tower_flops_are_those_that_torch_counts(backbone):
    pixels = preprocess(chunks(backbone, 1, 8)[0].frames, VISION["image_size"])
    expected = counted(lambda: backbone.model.visual_tokens(pixels))
    embedding = 2 * 8 * 16 * 3 * 8 * 8 * VISION["hidden_size"]  # what the sheet leaves out, not small here
    sizes = tiny_sizes(backbone).tower
    assert sizes.flops(8) == pytest.approx(expected - embedding, rel=0.05)


def test_auto_encoder_flops_are_those_that_torch_counts():
    frames = torch.randn(8, 64, 12, 12)
    expected = counted(lambda: SpatioTemporalEncoder(64)(frames))
    assert 2 * 2 * auto_encoder(64, 144) == pytest.approx(expected, rel=0.05)


def sizes_of(backbone: ReadingBackbone, chunk: Chunk, prompt: int, **sparse) -> BackboneSizes:
    """With the text that it reads between frames."""
    config = backbone.model.config.get_text_config()
    text = 0 if chunk.is_text is None else round(int(chunk.is_text.sum()) / chunk.num_steps)
    return BackboneSizes(
        "tiny",
        decoder_sizes(config),
        TowerSizes(1, 1, 1, 1),
        len(chunk.visual_tokens) // chunk.num_steps - text,
        backbone.frames_per_step,
        text_per_step=text,
        prompt=prompt,
        **sparse,
    )


def on_paper(sizes: BackboneSizes, chunk_frames: int) -> int:
    """FLOPs of six chunks."""
    paper = PaperBackbone(sizes, "float32")
    drawn = (paper.chunk(i, chunk_frames * i, chunk_frames) for i in range(6))
    list(MeanPool().encode(paper, paper.begin(), drawn, RATIOS))
    return paper.flops


@pytest.mark.parametrize("name", ["llava_onevision", "internvl", "qwen2_5_vl"])
@torch.no_grad()
def test_pre_fill_flops_of_stock_models_are_those_that_torch_counts(name, tmp_path):
    backbone = stock_backbone(name, tmp_path)
    start = backbone.begin(VideoFacts(48, 48.0))
    source = list(read(backbone, clips(8, 48), start.num_tokens))
    sizes = sizes_of(backbone, source[-1], start.num_tokens)
    expected = counted(lambda: list(MeanPool().encode(backbone, start, source, RATIOS)))
    assert on_paper(sizes, 8) == pytest.approx(expected, rel=0.05)


@torch.no_grad()
def test_sparse_pre_fill_flops_are_those_that_torch_counts():
    """Of blocks that chunks cut, with a distance at which tokens are no longer seen."""
    backbone = tiny_video_xl_2(sae_grid_size=16)
    backbone.block_groups = 2
    start = backbone.begin()
    source = list(read(backbone, clips(12, 72), start.num_tokens))
    options = {"stops_early": True, "block_steps": 2}
    sizes = sizes_of(backbone, source[-1], start.num_tokens, previous_blocks=1, **options)
    expected = counted(lambda: list(MeanPool().encode(backbone, start, source, RATIOS)))
    assert on_paper(sizes, 12) == pytest.approx(expected, rel=0.02)
    assert on_paper(replace(sizes, previous_blocks=9), 12) > 1.05 * expected


def test_answer_flops_are_those_that_torch_counts(backbone):
    index = index_of(backbone, VST(), ratios=RATIOS)
    cache = assemble(index, Plan((2,) * len(index.chunks)), backbone)
    cached, ids = cache.get_seq_length(), torch.arange(40)
    inputs = backbone._inputs(ids, cache) | {"logits_to_keep": 1}
    expected = counted(lambda: backbone.model(**inputs))
    assert tiny_sizes(backbone).decoder.answer_flops(40, cached) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("compressor", [VST(), *PASSES, MeanPool(), Identity()])
def test_tokens_and_bytes_are_those_of_a_real_index(compressor, backbone):
    source = read_chunks(backbone, num_chunks=6)
    index = index_of(backbone, compressor, source, RATIOS)
    sheet = dry_run(tiny_sizes(backbone), compressor, TopK(2), RATIOS, 30, 5, "float32")
    assert sheet.num_chunks == 6 and sheet.visual_tokens == index.num_visual_tokens
    assert sheet.level_tokens == {
        ratio: sum(chunk.levels[ratio].num_tokens for chunk in index.chunks) for ratio in RATIOS
    }
    assert sheet.kv_bytes_stored == index.num_bytes


class Peak(TorchDispatchMode):
    """The most bytes that tensors made under it have held at one time; views of `given` ones are not new."""

    def __init__(self, given):
        super().__init__()
        self.now = self.most = 0
        self.known = {tensor.untyped_storage()._cdata for tensor in given}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage):
        key = storage._cdata
        if key in self.known:
            return
        self.known.add(key)
        self.now += (size := storage.nbytes())
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key, size):
        self.known.discard(key)
        self.now -= size


def allocated(backbone, compressor, prefix, source) -> int:
    """The most bytes at one time while `source` is compressed; weights are counted apart.

    Chunks leave the device one by one, as in the pipeline.
    """
    given = [*backbone.model.parameters(), *backbone.model.buffers(), prefix.keys, prefix.values]
    with Peak([*given, *(chunk.visual_tokens for chunk in source)]) as peak:
        for _ in compressor.encode(backbone, prefix, source, RATIOS):
            pass
    return peak.most


@pytest.mark.parametrize("num_chunks", [4, 24])
@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize("compressor", [VST(), MeanPool(), Identity()], ids=["vst", "mean_pool", "identity"])
@torch.no_grad()
def test_peak_memory_is_about_what_is_allocated(compressor, kv_heads, num_chunks):
    """Up to a third more where little is held: on paper, memories grow while a chunk is read."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": kv_heads}
    backbone = tiny_backbone(hidden_size=256, intermediate_size=768, **heads)
    source = chunks(backbone, num_chunks, frames_per_chunk=20)
    expected = allocated(backbone, compressor, backbone.begin(), source)
    sheet = dry_run(tiny_sizes(backbone), compressor, TopK(2), RATIOS, 20 * num_chunks, 20, "float32")
    assert sheet.peak_bytes - sheet.weight_bytes == pytest.approx(expected, rel=0.35)


@pytest.mark.parametrize("num_frames", [32, 192])
@pytest.mark.parametrize("name", ["llava_onevision", "internvl"])
@torch.no_grad()
def test_peak_memory_of_stock_models_is_about_what_is_allocated(name, num_frames, tmp_path, monkeypatch):
    larger = {"hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 8}
    family = FAMILIES[name]
    monkeypatch.setitem(FAMILIES, name, replace(family, text=family.text | larger))
    backbone = stock_backbone(name, tmp_path)
    start = backbone.begin(VideoFacts(num_frames, float(num_frames)))
    source = list(read(backbone, clips(16, num_frames), start.num_tokens))
    expected = allocated(backbone, MeanPool(), start, source)
    sizes = sizes_of(backbone, source[-1], start.num_tokens)
    sheet = dry_run(sizes, MeanPool(), TopK(2), RATIOS, num_frames, 16, "float32")
    assert sheet.peak_bytes - sheet.weight_bytes == pytest.approx(expected, rel=0.2)


def test_the_paper_counts_every_head_and_layer():
    """Equations 7 to 10, by hand, for one layer of one head."""
    sizes = DecoderSizes(2, 3, 1, 1, 1, 2, 5)
    attention = (2 * 4 * 2 * 2 + 2 * 2 * 4 * 2 * 2) + 2 * 4 * 4 * 2 + 4 * 4 + 2 * 4 * 4 * 2 + 2 * 4 * 2 * 2
    other = 2 * 4 * 2 * 2 * 3 + 4 * 3 + 2 * 4 * 2 * 3 + 2 * 4 * 2 * 5
    assert paper_prefill_flops(sizes, tokens=4, chunk=2, ratio=1) == attention + other


@pytest.mark.parametrize("name", registry.names("backbone"))
def test_every_known_model_can_be_planned(name):
    result = CliRunner().invoke(x2l, ["estimate", "--backbone", name, "--frames", "64", "--json"])
    assert result.exit_code == 0, result.output
    sheet = json.loads(result.output)
    assert 0 < sheet["hybrid_tokens"] < sheet["visual_tokens"]
    assert sheet["prefill_flops"] > 0 and sheet["answer_flops"] < sheet["plain_answer_flops"]


def test_a_backbone_without_sizes_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(registry._registered["backbone"], "unsized", type("Unsized", (Backbone,), {}))
    assert main(["estimate", "--backbone", "unsized", "--frames", "9"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'unsized' has no known size" in line and "qwen3_vl" in line and "unsized," not in line


def test_the_old_name_of_the_command_is_an_alias():
    outputs = [
        CliRunner().invoke(x2l, [name, "--frames", "64", "--json"]).output for name in ("plan", "estimate")
    ]
    assert outputs[0] == outputs[1] and json.loads(outputs[0])
    assert "plan " not in CliRunner().invoke(x2l, ["--help"]).output


def test_published_sizes_have_the_published_number_of_parameters():
    """In billions, on the models' cards: the language model and the tower."""
    published = {"qwen2_5_vl": 8.29, "qwen3_vl": 8.77, "llava_onevision": 8.03, "internvl": 7.94}
    for name, billions in (published | {"smolvlm": 2.25}).items():
        parameters = published_sizes(name).decoder.parameters + published_sizes(name).tower.parameters
        assert parameters / 1e9 == pytest.approx(billions, rel=0.05), name


def test_video_xl_at_256_frames_is_the_arithmetic_of_its_release():
    """25 chunks of 1,440 tokens and one of 864; the first and the last are always 2x."""
    sheet = dry_run(published_sizes("video_xl"), VST(), TopK(3), (2, 32), 256)
    assert sheet.level_tokens == {2: 18432, 32: 720 + 24 * 45 + 432}
    assert sheet.bytes_per_token == 57344
    assert sheet.cache_reduction == pytest.approx(1 - (720 + 432 + 3 * 720 + 21 * 45) / 36864, abs=0.02)


def test_an_unknown_backbone_is_refused(capsys):
    assert main(["estimate", "--backbone", "video_xxl", "--frames", "9"]) == 2
    assert "backbone 'video_xxl' has no known size" in capsys.readouterr().err


def test_plans_of_what_cannot_be_planned_are_refused(capsys):
    for args, expected in (
        (["--set", "sampling.fps=1"], "expected one of compressor, selector, ratios"),
        (["--frame-size", "wide"], "--frame-size: expected width and height such as 640x360"),
        (["--backbone", "video_xl_2", "--chunk-frames", "10"], "expected a multiple of 4 for Video-XL-2-7B"),
        (
            ["--backbone", "qwen3_vl", "--set", "compressor=vst"],
            "compressor vst: needs vst, which Qwen3-VL",
        ),
    ):
        assert main(["estimate", "--frames", "99", *args]) == 2
        assert expected in capsys.readouterr().err


def test_frames_of_a_long_video_share_a_budget():
    short, long = (published_sizes("qwen3_vl").at(360, 640, frames).tokens_per_step for frames in (16, 2048))
    assert short == 20 * 11 and long < short / 5
    assert published_sizes("qwen2_5_vl").at(360, 640, 2048).tokens_per_step == 23 * 13


def test_the_benchmark_for_a_gpu_runs_at_a_small_size(monkeypatch, capsys):
    script = Path(__file__).parents[2] / "benchmarks" / "video_xl_7b.py"
    options = "--small --device cpu --dtype float32 --frames 20 --turns 1 --tokens 2"
    monkeypatch.setattr("sys.argv", [str(script), *options.split()])
    runpy.run_path(str(script), run_name="__main__")
    report = json.loads(capsys.readouterr().out)
    plain, double, hybrid, *_ = report["figures"]["20"].values()
    assert plain["cache_reduction"] == 0 and double["cache_reduction"] == pytest.approx(0.5)
    assert hybrid["kv_tokens_full"] == plain["kv_tokens"] == 20 * 144
    timed = ("ttft_s", "prefill_s", "prefill_again_s", "decode_ms_per_token", "replayed_ms_per_token")
    assert all(row[stage] > 0 for row in report["figures"]["20"].values() for stage in timed)
    assert all(row["replayed_alike"] for row in report["figures"]["20"].values())
    limits = dict(plain["limits"])
    assert limits.pop("question_s") < limits["ttft_s"]
    assert limits.keys() == {
        *("embed_s", "prefill_s", "to_host_s", "assemble_s", "assemble_again_s"),
        *("ttft_s", "decode_ms_per_token"),
    }
    assert all(0 < seconds < 100 * plain[stage] for stage, seconds in limits.items())
    bytes_per_token = 2 * 2 * 4 * 4 * 4  # keys and values, layers, heads, numbers, bytes
    assert limits["assemble_s"] * report["rates"]["taken"] == pytest.approx((14 + 20 * 144) * bytes_per_token)


@pytest.mark.parametrize(
    ("frames", "passes", "memory", "most"),
    [
        (256, "pooled", "low", 0.65),
        (256, "clustered", "low", 0.65),
        (256, "joint", "low", 0.67),  # every VST of 32x attends to a memory of 2x: a little above 0.65
        (256, "joint", "high", 0.56),
        (2048, "joint", "high", 0.31),
    ],
)
def test_one_pass_is_that_much_less_than_two_on_a_7b(frames, passes, memory, most):
    sizes = published_sizes("video_xl")
    one, two = (
        dry_run(sizes, compressor, TopK(3), (2, 32), frames, 10, "bfloat16").prefill_flops
        for compressor in (VST(passes=passes, memory=memory), VST())
    )
    assert most - 0.05 < one / two < most


@dataclass
class Growing(MeanPool):
    """Keeps more of later chunks: a shorter video does not tell how much of a longer one."""

    def encode(self, backbone, prefix, chunks, ratios):
        for number, chunk in enumerate(super().encode(backbone, prefix, chunks, ratios)):
            kept = slice(1 + number.bit_length())
            yield replace(chunk, levels={ratio: kv.part(kept) for ratio, kv in chunk.levels.items()})


@pytest.mark.parametrize(
    ("model", "compressor", "ratios", "chunk_frames"),
    [
        ("video_xl", VST(), (2, 32), 10),
        ("video_xl", VST(edge_ratio=None), (3, 7), 3),  # summary tokens are placed anew after 7 chunks
        ("x2l_tiny", VST(passes="joint", memory="high"), (2, 32), 7),
        ("x2l_tiny", LowResolution(), (4, 8), 10),
        ("qwen2_5_vl", MeanPool(memory="compressed", edge_ratio=2), (2, 32), 4),
        ("video_xl_2", MeanPool(), (2, 8), 12),  # chunks cut blocks
        ("x2l_tiny", Growing(), (4, 8), 10),
    ],
)
@pytest.mark.parametrize("rest", [0, 1])
def test_a_long_video_is_counted_to_the_same_number(model, compressor, ratios, chunk_frames, rest):
    sizes = published_sizes(model).at(360, 640, 512)
    run = PaperRun(sizes, compressor, ratios, chunk_frames, "bfloat16")
    num_frames = 60 * chunk_frames + rest * sizes.frames_per_step
    one_by_one, long = run._counted(num_frames), run.count(num_frames)
    assert replace(long, chunks=()) == replace(one_by_one, chunks=())
    kept = [
        [{ratio: level.num_tokens for ratio, level in chunk.levels.items()} for chunk in counts.chunks]
        for counts in (long, one_by_one)
    ]
    assert kept[0] == kept[1]


def test_equal_chunks_of_a_million_frames_are_counted_once(monkeypatch, capsys):
    drawn, chunk = [], PaperBackbone.chunk
    monkeypatch.setattr(PaperBackbone, "chunk", lambda *args: drawn.append(args) or chunk(*args))
    assert main(["estimate", "--backbone", "video_xl", "--frames", "1000000", "--json"]) == 0
    assert len(drawn) < 100
    sheet = json.loads(capsys.readouterr().out)
    # 100,000 chunks of 1,440 tokens; the three of the plan are at 2x.
    assert sheet["num_chunks"] == 100_000 and sheet["visual_tokens"] == 144_000_000
    assert sheet["level_tokens"] == {"2": 72_000_000, "8": 18_000_000}
    assert sheet["hybrid_tokens"] == 3 * 720 + 99_997 * 180
    assert main(["estimate", "--frames", "99999999999"]) == 2
    assert "--frames" in capsys.readouterr().err
