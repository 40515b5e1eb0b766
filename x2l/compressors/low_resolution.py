"""The plain alternative to compressing KVs: fewer visual tokens per frame in the first place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Backbone, Compressor, chunk_kv
from x2l.types import KV, Chunk, ChunkKV, X2LError, equal_counts


@dataclass
class LowResolution(Compressor):
    """Means over cells of each frame's token grid before the pre-fill, one pass for each ratio.

    A cell covers the same whole number of tokens everywhere, so that some ratios are only approached from
    above; a frame keeps one token at least.

    Source: none; the control for methods that compress KVs at the same budget.
    """

    requires = frozenset({"token_grid"})

    def encode(
        self, backbone: Backbone, prefix: KV, chunks: Iterable[Chunk], ratios: Sequence[int]
    ) -> Iterator[ChunkKV]:
        memories = dict.fromkeys(ratios, backbone.extend(None, prefix))
        for chunk in chunks:
            levels = {}
            for ratio in ratios:
                smaller = _with_fewer_tokens(chunk, ratio)
                kv = backbone.prefill(smaller, memories[ratio])
                counts = equal_counts(kv.num_tokens, chunk.visual_tokens.shape[-2])
                levels[ratio] = replace(kv, counts=counts)
                memories[ratio] = backbone.extend(memories[ratio], levels[ratio])
            yield chunk_kv(chunk, levels)


def _with_fewer_tokens(chunk: Chunk, ratio: int) -> Chunk:
    """Means of cells; each stands at the middle of the positions that it stands for."""
    tokens = lower_resolution(chunk.visual_tokens, chunk.num_frames, ratio)
    positions = chunk.positions
    if positions is not None:
        middle = lower_resolution(positions.T.double(), chunk.num_frames, ratio)
        positions = middle.T.long()
    return replace(chunk, visual_tokens=tokens, positions=positions)


def lower_resolution(
    visual_tokens: Float[Tensor, "*batch tokens hidden"], num_frames: int, ratio: int
) -> Float[Tensor, "*batch fewer_tokens hidden"]:
    """Cell means of every frame's square token grid. Raises X2LError for frames that have none."""
    per_frame = visual_tokens.shape[-2] // num_frames
    side = math.isqrt(per_frame)
    if side * side * num_frames != visual_tokens.shape[-2]:
        raise X2LError(
            f"compressor low_resolution: expected a square grid of tokens per frame, got "
            f"{visual_tokens.shape[-2]} tokens of {num_frames} frames"
        )
    height, width = grid_size(side, ratio)
    grid = rearrange(visual_tokens, "... (f h w) d -> ... f h w d", f=num_frames, h=side)
    return reduce(
        grid,
        "... f (h down) (w right) d -> ... (f h w) d",
        "mean",
        h=height,
        w=width,
    )


def grid_size(side: int, ratio: int) -> tuple[int, int]:
    """(height, width) of the finest, then squarest grid of whole cells with at most side**2 / ratio."""
    sizes = [size for size in range(1, side + 1) if side % size == 0]
    fitting = [(h, w) for h in sizes for w in sizes if h <= w and h * w * ratio <= side * side]
    return max(fitting, key=lambda size: (size[0] * size[1], size[0]), default=(1, 1))
