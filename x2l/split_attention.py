"""Attention of some rows to two runs of keys, each attended to alone and merged by their log-sum-exp.

Only the rows' own keys need a mask: none lies in memory that grows with what is cached. On CPUs only, whose
kernel tells the log-sum-exp.

Source: FlashAttention (arXiv 2205.14135), section 3.1, for the merge.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Queries = Float[Tensor, "batch heads read head_dim"]
Cached = Float[Tensor, "batch kv_heads cached head_dim"]
Own = Float[Tensor, "batch kv_heads own head_dim"]


def can_split(device: torch.device) -> bool:
    """Whether the merge can be done: its log-sum-exp has no gradient, and no autocast knows its kernel."""
    is_plain = not torch.is_grad_enabled() and not torch.is_autocast_enabled(device.type)
    return device.type == "cpu" and is_plain and cpu_kernel() is not None


def split_attention(
    query: Queries,
    cached: tuple[Cached, Cached],
    own: tuple[Own, Own],
    scale: float | None,
    bias: Float[Tensor, " cached"] | None = None,
    seen: Bool[Tensor, "read own"] | None = None,
) -> Queries:
    """What rows find among cached keys, which all of them see, and among their own, where `can_split`.

    cached, own: keys and values. bias: added to the logits of cached keys. seen: which of their own keys rows
    see, at least one; None: as many own keys as rows, causally.
    """
    kernel, rows = cpu_kernel(), folded(query, cached[0])
    mask = None if bias is None else bias.expand(1, 1, rows.shape[2], -1)
    old, old_mass = kernel(rows, *cached, 0.0, False, attn_mask=mask, scale=scale)
    mask = None if seen is None else query.new_zeros(seen.shape).masked_fill(~seen, -math.inf)[None, None]
    new, new_mass = kernel(query, *own, 0.0, seen is None, attn_mask=mask, scale=scale)
    share = (old_mass.reshape(new_mass.shape) - new_mass).sigmoid()[..., None]
    return new.lerp(old.reshape(query.shape), share.to(new))


def folded(
    query: Queries, keys: Float[Tensor, "batch kv_heads any head_dim"]
) -> Float[Tensor, "batch kv_heads rows head_dim"]:
    """Heads that share keys as rows of one head: no kernel reads keys and values once for each of them."""
    return query.reshape(len(query), keys.shape[1], -1, query.shape[-1])


@cache
def cpu_kernel() -> Callable | None:
    """torch's flash kernel on CPUs, which gives the log-sum-exp; None where it is not as we know it.

    It is not public: a torch that changes it costs speed, and nothing else.
    """
    query, keys = torch.ones(1, 2, 1, 8), torch.ones(1, 1, 3, 8)
    try:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, mass = kernel(query, keys, keys, 0.0, False, attn_mask=None, scale=1.0)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None
    is_known = output.shape == query.shape and torch.allclose(mass, torch.tensor(8 + math.log(3)))
    return kernel if is_known else None
