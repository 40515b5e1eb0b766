"""The engine against tensors of the public reference implementations.

One case is committed. The folder named by X2L_GOLDEN_DIR adds every case of its manifest.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from x2l.backbones.video_xl import VideoXL
from x2l.backbones.video_xl_2 import VideoXL2, groups_of
from x2l.cache import assemble, concatenate, planned_levels
from x2l.chunkers.scenes import depth_scores, scene_lengths, split_points
from x2l.compressors.identity import Identity
from x2l.compressors.mean_pool import MeanPool
from x2l.compressors.vst import VST
from x2l.networks.qwen2_vst import VSTConfig, VSTForCausalLM
from x2l.networks.video_xl import VideoXLConfig, VideoXLForCausalLM
from x2l.networks.video_xl_2 import VideoXL2Config, VideoXL2ForCausalLM
from x2l.preprocessing.pixels import preprocess
from x2l.types import Chunk, Geometry, IndexSpec, Plan, VideoIndex

FOLDERS = [Path(__file__).parent / "golden"]
if "X2L_GOLDEN_DIR" in os.environ:
    FOLDERS.append(Path(os.environ["X2L_GOLDEN_DIR"]))
KINDS = ("bilevel", "single_level", "dense")
OTHER_KINDS = ("vision_path", "oracle_and_chunking", "video_xl_2_sae", "video_xl_2_bilevel")


def cases(*kinds):
    for folder in FOLDERS:
        for case in json.loads((folder / "manifest.json").read_text())["cases"]:
            if case["kind"] in (kinds or KINDS):
                yield pytest.param(folder, case, id=f"{folder.name}-{case['name']}")


def golden(*kinds):
    """A test of every case of these kinds; the committed folder has none of them."""
    return pytest.mark.parametrize(("folder", "case"), list(cases(*kinds)))


def test_every_folder_has_cases():
    assert {case.values[0] for case in cases()} == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS[1:])
def test_every_case_of_a_given_folder_is_of_a_kind_that_is_tested(folder):
    listed = {case["kind"] for case in json.loads((folder / "manifest.json").read_text())["cases"]}
    assert listed <= {*KINDS, *OTHER_KINDS}


class GoldenBackbone(VideoXL):
    """The engine on golden weights: prompts are given as ids, visual tokens as features."""

    def __init__(self, folder: Path, case: dict, system_ids: torch.Tensor):
        config = VSTConfig(**json.loads((folder / case["config"]).read_text()))
        model = VSTForCausalLM(config)
        model.load_state_dict(load_file(folder / case["model"]))
        super().__init__(model)
        self.system_ids = system_ids

    def begin(self, video=None):
        return self._prefill(self.embed_ids(self.system_ids), memory=None)


def close(actual, expected):
    torch.testing.assert_close(actual, expected.float(), atol=1e-4, rtol=1e-4)


def chunk_lengths(case: dict) -> list[int]:
    return case.get("chunk_tokens") or [144 * case["frames"]]


def chunks_of(visual: torch.Tensor, lengths: list[int]):
    for index, tokens in enumerate(visual.split(lengths)):
        yield Chunk(index, torch.arange(max(1, len(tokens) // 144)).double().numpy(), tokens)


def encoded(case: dict, carry: str):
    """Compressor, ratios, and the golden's name of each ratio."""
    if case["kind"] == "dense":
        return Identity(), (1,), {}
    if case["kind"] == "single_level":
        return VST(edge_ratio=None, carry=carry), (case["ratio"],), {case["ratio"]: "single"}
    low, high = case["low_ratio"], case["high_ratio"]
    return VST(carry=carry), (low, high), {low: "L", high: "H"}


@pytest.mark.parametrize("carry", ["release", "reset"])
@pytest.mark.parametrize(("folder", "case"), list(cases()))
@torch.no_grad()
def test_golden(folder, case, carry):
    golden = load_file(folder / case["file"])
    backbone = GoldenBackbone(folder, case, golden["input.system_ids"])
    compressor, ratios, names = encoded(case, carry)
    visual = golden["input.visual_f16"].float()
    prefix = backbone.begin()
    chunk_kvs = tuple(compressor.encode(backbone, prefix, chunks_of(visual, chunk_lengths(case)), ratios))
    index = VideoIndex(prefix, chunk_kvs, IndexSpec("golden", backbone.geometry, {}, {}))

    if "system.k" in golden:
        close(index.prefix.keys, golden["system.k"])
        close(index.prefix.values, golden["system.v"])
    for ratio, name in names.items():
        for chunk in chunk_kvs:
            close(chunk.levels[ratio].keys, golden[f"{name}.chunk{chunk.index}.k"])
            close(chunk.levels[ratio].values, golden[f"{name}.chunk{chunk.index}.v"])
    if case["kind"] == "dense":
        dense, _ = concatenate([index.prefix, *(chunk.levels[1] for chunk in chunk_kvs)])
        close(dense.keys, golden["dense.k"])
        close(dense.values, golden["dense.v"])

    for number, output in enumerate(case["outputs"]):
        selected = set(output.get("selected", ()))
        plan = Plan(tuple(min(ratios) if i in selected else max(ratios) for i in range(len(chunk_kvs))))
        cache = assemble(index, plan, backbone)
        assert cache.get_seq_length() == output["memory_len"]
        close(backbone.logits(golden["input.query_ids"], cache), golden[f"out{number}.query_logits"])
        generated = backbone.model.generate(
            golden["input.query_ids"][None],
            past_key_values=assemble(index, plan, backbone),
            attention_mask=torch.ones(
                1, output["memory_len"] + len(golden["input.query_ids"]), dtype=torch.long
            ),
            max_new_tokens=8,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        close(torch.cat(generated.logits), golden[f"out{number}.step_logits"])
        assert generated.sequences[0, -8:].tolist() == golden[f"out{number}.tokens"].tolist()


@golden("vision_path")
@torch.no_grad()
def test_golden_vision_path(folder, case):
    golden = load_file(folder / case["file"])
    config = VideoXLConfig(
        vision_config=case["clip"],
        hidden_size=case["out_hidden"],
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        vocab_size=8,
        **{key: value for key, value in case.items() if key.startswith("mm_")},
    )
    model = VideoXLForCausalLM(config).eval()
    load_weights(model, golden)
    pixels = preprocess(golden["input.frames_u8"].numpy(), case["clip"]["image_size"])
    close(pixels, golden["pixel_values"])
    close(model.model.vision_tower(pixels), golden["tower.patch_features"])
    close(model.visual_tokens(pixels).flatten(0, 1), golden["visual_tokens"])


def load_weights(model, golden) -> None:
    """The weights that a golden file carries, widened; all of them must fit."""
    prefix = "weights."
    weights = {key.removeprefix(prefix): w.float() for key, w in golden.items() if key.startswith(prefix)}
    assert weights and not model.load_state_dict(weights, strict=False).unexpected_keys


def tiny_video_xl_2(**sizes) -> VideoXL2ForCausalLM:
    vision = {"hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision |= {"image_size": 16, "patch_size": 8}
    defaults = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 8}
    defaults |= {"num_attention_heads": 1, "num_key_value_heads": 1, "vision_config": vision}
    return VideoXL2ForCausalLM(VideoXL2Config(**defaults | sizes)).eval()


@golden("video_xl_2_sae")
@torch.no_grad()
def test_golden_auto_encoder(folder, case):
    golden = load_file(folder / case["file"])
    vision = {"hidden_size": case["channels"], "intermediate_size": 8, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 1, "image_size": 16, "patch_size": 8}
    model = tiny_video_xl_2(hidden_size=case["out_hidden"], vision_config=vision)
    load_weights(model, golden)
    close(model.visual_tokens(golden["tower.features_f16"].float()), golden["visual_tokens"])


@golden("video_xl_2_bilevel")
@torch.no_grad()
def test_golden_sparse_prefill_and_pooling(folder, case):
    golden = load_file(folder / case["file"])
    sizes = json.loads((folder / case["config"]).read_text())
    model = tiny_video_xl_2(**sizes)
    assert not model.load_state_dict(load_file(folder / case["model"]), strict=False).unexpected_keys
    backbone = VideoXL2(
        model, block_groups=case["prefill_block_groups"], previous_blocks=case["prefill_prev_blocks"]
    )
    prefix = backbone.prefill_prompt(backbone.embed_ids(golden["input.system_ids"]))
    pool = MeanPool(edge_ratio=1, remainder="drop")
    chunks = list(video_xl_2_chunks(backbone, golden, case))
    encoded = tuple(pool.encode(backbone, prefix, chunks, (1, case["pool_kernel"])))
    dense, _ = concatenate([prefix, *(chunk.levels[1] for chunk in encoded)])
    close(dense.keys, golden["dense.k"])
    close(dense.values, golden["dense.v"])

    index = VideoIndex(prefix, encoded, IndexSpec("golden", backbone.geometry, {}, {}))
    groups_per_unit = case["unit_frames"] // 4
    selected = {unit * groups_per_unit // case["select_block_groups"] for unit in case["selected_units"]}
    plan = Plan(tuple(1 if i in selected else case["pool_kernel"] for i in range(len(encoded))))
    hybrid, _ = concatenate([prefix, *planned_levels(index, plan)])
    close(hybrid.keys, golden["hybrid.k"])
    close(hybrid.values, golden["hybrid.v"])

    cache = assemble(index, plan, backbone)
    assert cache.get_seq_length() == case["outputs"][0]["memory_len"]
    query = golden["input.query_ids"]
    close(backbone.logits(query, cache), golden["out0.query_logits"])
    tokens = backbone.generate_ids(query, assemble(index, plan, backbone), max_new_tokens=8)
    assert tokens.tolist() == golden["out0.tokens"].tolist()


def video_xl_2_chunks(backbone, golden, case):
    """The stream of time stamps and visual tokens, cut into selection blocks."""
    ids = golden["input.visual_stream_ids"]
    is_text = ids >= 0
    stream = backbone.embed_ids(ids.clamp(min=0))
    stream[~is_text] = golden["input.visual_f16"].float()
    groups = groups_of(is_text)
    for index in range(int(groups.max()) // case["select_block_groups"] + 1):
        rows = groups // case["select_block_groups"] == index
        num_frames = 4 * len(groups[rows].unique())
        times_s = torch.arange(num_frames).double().numpy()
        yield Chunk(index, times_s, stream[rows], is_text=is_text[rows], frames_per_step=4)


@golden("oracle_and_chunking")
def test_golden_dynamic_chunks(folder, case):
    golden = load_file(folder / case["file"])
    for number, expected in enumerate(case["depth"]):
        features = golden[f"depth{number}.cls"]
        close(depth_scores(features), golden[f"depth{number}.depth_scores"])
        assert split_points(features) == expected["split_points"]
        assert scene_lengths(features) == expected["chunk_frames_after_cap15"]


def test_geometry_of_the_committed_case():
    folder = FOLDERS[0]
    case = json.loads((folder / "manifest.json").read_text())["cases"][0]
    golden = load_file(folder / case["file"])
    geometry = GoldenBackbone(folder, case, golden["input.system_ids"]).geometry
    assert geometry == Geometry(2, 3, 8, 144, "float32")
