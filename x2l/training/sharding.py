"""Weights, gradients and optimiser state spread over processes (FSDP2)."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from x2l.errors import X2LError


def shard(module: nn.Module, mesh: DeviceMesh, entries: tuple[str, ...]) -> None:
    """Shard a module over a mesh; `entries` are its methods that count as a forward call.

    Raises X2LError where this PyTorch cannot reduce gradients that only some processes have.

    Weights are gathered once for each entry and stay until its backward pass ends: every layer is called once
    for each chunk and level, and gathering it each time would move the model hundreds of times a step.
    """
    if isinstance(module, FSDPModule):
        return
    fully_shard(module, mesh=mesh, reshard_after_forward=False)
    if not hasattr(module, "set_reduce_scatter_unused_params"):
        raise X2LError(
            f"strategy: fsdp2 needs a newer PyTorch than {torch.__version__}, expected 2.13 or ddp"
        )
    # Processes must reduce the same gradients, whatever their videos used.
    module.set_reduce_scatter_unused_params(True)
    for entry in entries:
        register_fsdp_forward_method(module, entry)
