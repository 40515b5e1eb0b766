"""Host memory: what is copied there is whole, in few blocks, within its limit."""

import pytest
import torch

from x2l.host_memory import HostMemory

TENSORS = (
    torch.randn(3, 5, 7),
    torch.arange(9)[None],
    torch.randn(2, 4).bfloat16(),
    torch.empty(2, 0, 3),
    torch.tensor(True),
    torch.randn(8, 6)[:, ::2],
    torch.randn(2000),
)
on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=on_gpu)]


@pytest.mark.parametrize("device", DEVICES)
def test_copies_are_whole_and_share_blocks(device):
    host = HostMemory(torch.device(device), block_bytes=4096)
    copies = [host.copy(tensor.to(device)) for tensor in TENSORS]
    host.wait()
    for copy, tensor in zip(copies, TENSORS, strict=True):
        assert copy.device.type == "cpu" and copy.dtype == tensor.dtype and torch.equal(copy, tensor)
    blocks = [copy.untyped_storage().data_ptr() for copy in copies]
    assert len(set(blocks)) == 2 and len({*blocks[:-1]}) == 1  # the last is larger than a block


def test_what_lies_in_host_memory_stays_what_it_is():
    tensor = torch.randn(3)
    assert HostMemory(torch.device("cpu")).hold(tensor) is tensor


@pytest.mark.parametrize("device", DEVICES[1:])
def test_memory_is_pinned_up_to_a_limit_and_freed_with_the_last_tensor(device):
    before, tensor = HostMemory.pinned_bytes, torch.randn(256, device=device)
    host = HostMemory(torch.device(device), limit_bytes=before + 4096, block_bytes=2048)
    copies = [host.hold(tensor) for _ in range(6)]
    host.wait()
    assert [copy.is_pinned() for copy in copies] == [True] * 4 + [False] * 2
    assert all(torch.equal(copy, tensor.cpu()) for copy in copies)
    assert HostMemory.pinned_bytes == before + 4096
    del host, copies[:2]
    assert HostMemory.pinned_bytes == before + 2048
    del copies
    assert HostMemory.pinned_bytes == before
