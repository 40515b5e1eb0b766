"""CPU against CUDA: the same answer, the same logits to 1e-3, on every backbone."""

import pytest
import torch
from models import index_of, tiny_backbone
from test_backbones import QUESTION, build
from test_backbones import index_of as index_of_noise

from x2l import registry
from x2l.cache import assemble
from x2l.compressors.vst import VST
from x2l.engine import causal
from x2l.proportional import Proportional
from x2l.types import Plan, Question

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@torch.no_grad()
def test_cuda_equals_cpu():
    logits, texts = [], []
    for device in ("cpu", "cuda"):
        backbone = tiny_backbone()
        backbone.model.to(device)
        index = index_of(backbone, VST(), ratios=(2, 8))
        plan = Plan(tuple(2 if i % 2 else 8 for i in range(len(index.chunks))))
        ids = backbone.encode_question(Question("How many bells appear in the video?"))
        logits.append(backbone.logits(ids, assemble(index, plan, backbone)).cpu())
        texts.append(backbone.generate(ids, assemble(index, plan, backbone), max_new_tokens=4))
    torch.testing.assert_close(logits[0], logits[1], atol=1e-3, rtol=1e-3)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", registry.names("backbone"))
@torch.no_grad()
def test_every_backbone_is_the_same_on_cuda(name, tmp_path):
    build(name, tmp_path)
    model = {} if name == "x2l_tiny" else {"model": str(tmp_path)}
    logits = []
    for device in ("cpu", "cuda"):
        backbone = registry.build("backbone", {"name": name, "device": device, **model})
        index = index_of_noise(backbone, registry.build("compressor", "mean_pool"))
        cache = assemble(index, Plan((8, 1, 2)), backbone, "original")
        logits.append(backbone.logits(backbone.encode_question(QUESTION), cache).cpu())
    torch.testing.assert_close(logits[0], logits[1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-3), (torch.bfloat16, 2e-2)])
@torch.no_grad()
def test_rows_behind_a_cache_are_attended_to_as_on_a_cpu(dtype, within):
    """By the flash kernel with grouped heads, and by the one that takes full precision."""
    torch.manual_seed(0)
    states = torch.randn(1, 6, 33, 64), torch.randn(1, 2, 333, 64), torch.randn(1, 2, 333, 64)
    for bias in (None, torch.cat((torch.rand(300), torch.zeros(33)))):
        expected = causal._lower_right(*states, bias, 0.0, 0.1)
        given = [tensor.to("cuda", dtype) for tensor in states]
        got = causal._lower_right(*given, None if bias is None else bias.to("cuda", dtype), 0.0, 0.1)
        torch.testing.assert_close(got.float().cpu(), expected, atol=within, rtol=within)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("name", registry.names("backbone"))
@torch.no_grad()
def test_replayed_tokens_are_those_that_are_launched(name, beta, tmp_path):
    """Several answers of one capture, each of another plan."""
    build(name, tmp_path)
    model = {} if name == "x2l_tiny" else {"model": str(tmp_path)}
    plain = registry.build("backbone", {"name": name, "device": "cuda", **model})
    index = index_of_noise(plain, registry.build("compressor", "mean_pool"))
    backbone = plain.weighing(Proportional(beta)) if beta else plain
    ids = backbone.encode_question(QUESTION)
    for plan in (Plan((8, 1, 2)), Plan((2, 2, 8))):
        launched, replayed = (
            backbone.generate_ids(
                ids,
                assemble(index, plan, backbone, "original"),
                max_new_tokens=6,
                eos_token_id=-1,
                decode=decode,
            ).tolist()
            for decode in ("eager", "graph")
        )
        assert replayed == launched
    (step,) = backbone._replays._steps.values()
    assert step.graph is not None
