"""The engine against tensors of the public reference implementations.

One case is committed. The folder named by X2L_GOLDEN_DIR adds every case of its manifest.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from x2l.backbones._qwen2_vst import VSTConfig, VSTForCausalLM
from x2l.backbones.video_xl import VideoXL
from x2l.cache import assemble, concatenate
from x2l.compressors.identity import Identity
from x2l.compressors.vst import VST
from x2l.types import Chunk, Geometry, IndexSpec, Plan, VideoIndex

FOLDERS = [Path(__file__).parent / "golden"]
if "X2L_GOLDEN_DIR" in os.environ:
    FOLDERS.append(Path(os.environ["X2L_GOLDEN_DIR"]))
KINDS = ("bilevel", "single_level", "dense")


def cases():
    for folder in FOLDERS:
        for case in json.loads((folder / "manifest.json").read_text())["cases"]:
            if case["kind"] in KINDS:
                yield pytest.param(folder, case, id=f"{folder.name}-{case['name']}")


def test_every_folder_has_cases():
    assert {case.values[0] for case in cases()} == set(FOLDERS)


class GoldenBackbone(VideoXL):
    """The engine on golden weights: prompts are given as ids, visual tokens as features."""

    def __init__(self, folder: Path, case: dict, system_ids: torch.Tensor):
        config = VSTConfig(**json.loads((folder / case["config"]).read_text()))
        model = VSTForCausalLM(config)
        model.load_state_dict(load_file(folder / case["model"]))
        super().__init__(model)
        self.system_ids = system_ids

    def begin(self):
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
        dense = concatenate([index.prefix, *(chunk.levels[1] for chunk in chunk_kvs)])
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


def test_geometry_of_the_committed_case():
    folder = FOLDERS[0]
    case = json.loads((folder / "manifest.json").read_text())["cases"][0]
    golden = load_file(folder / case["file"])
    geometry = GoldenBackbone(folder, case, golden["input.system_ids"]).geometry
    assert geometry == Geometry(2, 3, 8, 144, "float32")
