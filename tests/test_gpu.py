"""CPU against CUDA: the same answer, the same logits to 1e-3."""

import pytest
import torch
from models import index_of, tiny_backbone

from x2l.cache import assemble
from x2l.compressors.vst import VST
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
        index = index_of(backbone, VST(), (2, 8))
        plan = Plan(tuple(2 if i % 2 else 8 for i in range(len(index.chunks))))
        ids = backbone.encode_question(Question("How many bells appear in the video?"))
        logits.append(backbone.logits(ids, assemble(index, plan, backbone)).cpu())
        texts.append(backbone.generate(ids, assemble(index, plan, backbone), max_new_tokens=4))
    torch.testing.assert_close(logits[0], logits[1], atol=1e-3, rtol=1e-3)
    assert texts[0] == texts[1]
