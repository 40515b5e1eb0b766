"""The memory of a pre-fill lies in one place: equal to one that is copied for every chunk."""

import pytest
import torch
from models import chunks, tiny_backbone

from x2l.compressors.vst import place_vsts
from x2l.types import KV, Chunk


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def random_kv(tokens: int, batch: tuple[int, ...] = ()) -> KV:
    shape = (*batch, 3, 2, tokens, 16)
    return KV(torch.randn(shape), torch.randn(shape), torch.arange(tokens)[None, None, None])


def of_copies(backbone, kvs):
    """The same by concatenation, which is how memories with gradients are made."""
    memory = None
    with torch.enable_grad():
        for kv in kvs:
            memory = backbone.extend(memory, kv)
    return memory


@pytest.mark.parametrize("batch", [(), (2,)])
@torch.no_grad()
def test_memories_stay_as_they_are_and_each_can_be_extended_again(backbone, batch):
    kvs = [random_kv(5), *(random_kv(n, batch) for n in (90, 250, 3, 400))]
    memories = [backbone.extend(None, kvs[0])]
    for kv in kvs[1:]:
        memories.append(backbone.extend(memories[-1], kv))
    other = random_kv(60, batch)
    forks = [backbone.extend(memory, other) for memory in memories]
    for i, (memory, fork) in enumerate(zip(memories, forks, strict=True)):
        for got, parts in ((memory, kvs[: i + 1]), (fork, [*kvs[: i + 1], other])):
            expected = of_copies(backbone, parts)
            assert torch.equal(got.keys, expected.keys) and torch.equal(got.values, expected.values)


@pytest.mark.parametrize("batch", [(), (2,)])
@torch.no_grad()
def test_chunks_are_read_behind_it_as_behind_a_copy(backbone, batch):
    """What is read lies behind the memory meanwhile, and two that read the same memory do not meet there."""
    source = [
        Chunk(i, chunk.times_s, chunk.visual_tokens.expand(*batch, -1, -1)[..., : 20 - i, :])
        for i, chunk in enumerate(chunks(backbone, 4))
    ]
    kvs = [backbone.begin()]
    memory = backbone.extend(None, kvs[0])
    for chunk in source:
        after, _ = place_vsts(chunk.visual_tokens.shape[-2], 2, 0, "reset")
        copy = of_copies(backbone, kvs)
        for read, where in ((backbone.prefill, ()), (backbone.prefill_vst, (after,))):
            got, expected = (read(chunk, each, *where) for each in (memory, copy))
            torch.testing.assert_close(got.keys, expected.keys, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(got.values, expected.values, atol=1e-6, rtol=1e-6)
        fork, longer = backbone.extend(memory, expected), backbone.extend(memory, expected)
        backbone.prefill(chunk, fork)
        assert torch.equal(fork.keys, longer.keys)
        kvs.append(expected)
        memory = longer


@torch.no_grad()
def test_neither_a_chunk_nor_its_memory_is_copied(backbone):
    memory, places = backbone.extend(None, backbone.begin()), []
    for chunk in chunks(backbone, 8):
        kv = backbone.prefill(chunk, memory)
        memory = backbone.extend(memory, kv)
        places.append(memory.keys.data_ptr())
    assert len(set(places)) == 2
    behind = memory.room.keys.buffer[..., memory.num_tokens :, :]
    assert behind.shape[-2] >= memory.room.spare == chunk.visual_tokens.shape[-2]
    before = behind.clone()
    backbone.prefill(chunk, memory)
    # The last layer of a pre-fill attends to nothing.
    assert not torch.equal(behind[:-1, :, :20], before[:-1, :, :20])
    assert memory.num_tokens == memory.room.num_tokens
