"""Levels that stay on the device: loaded once, within their bound, with the same answers."""

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import torch
from models import QUESTION, index_of, tiny_backbone

from x2l.compressors.vst import VST
from x2l.host_memory import HostMemory
from x2l.on_device import OnDevice
from x2l.oracles.attention import AttentionScore
from x2l.pipeline import Pipeline
from x2l.pipeline.indexing import in_host_memory
from x2l.selectors.random import Random
from x2l.types import KV

LOADED: Counter = Counter()
on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@dataclass(frozen=True)
class Counting:
    """A level that counts how often it is loaded."""

    kv: KV = field(repr=False)

    num_tokens = property(lambda self: self.kv.num_tokens)
    num_bytes = property(lambda self: self.kv.num_bytes)

    def materialise(self) -> KV:
        LOADED[id(self)] += 1
        return self.kv


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_gpu)])
@torch.no_grad()
def test_a_second_question_loads_only_what_the_first_did_not(device):
    backbone = tiny_backbone()
    backbone.model.to(device)
    on_device, host = index_of(backbone, VST(), ratios=(2, 8)), HostMemory(torch.device(device))
    plain = replace(
        on_device,
        prefix=on_device.prefix.mapped(host.hold),
        chunks=tuple(in_host_memory(chunk, host) for chunk in on_device.chunks),
    )
    host.wait()
    chunks = [
        replace(each, levels={ratio: Counting(level) for ratio, level in each.levels.items()})
        for each in plain.chunks
    ]
    index = replace(plain, chunks=tuple(chunks))
    pipeline = Pipeline(backbone, VST(), AttentionScore(), Random(k=1), ratios=(2, 8), kept_bytes=10**9)
    LOADED.clear()
    answers = [pipeline.ask(index, QUESTION.text, max_new_tokens=3) for _ in range(2)]
    assert set(LOADED.values()) == {1} and len(LOADED) == len(chunks)
    expected = replace(pipeline, kept_bytes=0).ask(plain, QUESTION.text, max_new_tokens=3)
    assert [answer.text for answer in answers] == [expected.text] * 2


def test_the_levels_that_were_asked_for_last_are_kept_within_the_bound():
    kv = KV(*torch.randn(2, 1, 1, 4, 8), torch.arange(4)[None, None, None])
    levels = [Counting(kv) for _ in range(3)]
    kept = OnDevice(torch.device("cpu"), 2 * kv.num_bytes)
    LOADED.clear()
    for number in (0, 1, 0, 2, 0, 1):
        assert torch.equal(kept.ready(levels[number]).keys, kv.keys)
        assert kept.num_bytes <= kept.limit_bytes
    assert [LOADED[id(level)] for level in levels] == [1, 2, 1]
    none = OnDevice(torch.device("cpu"), 0)
    assert none.ready(levels[0]) is kv and none.num_bytes == 0
