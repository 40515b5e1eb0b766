"""Dynamic chunks: a video is cut where what its frames show changes.

Source: Video-XL (arXiv 2409.14485), section 3.3, as coded in the release of Video-X^2L, where it is switched
off; here it is `chunk_frames: scenes`. Differs: the paper's depth score leaves s_i out of the maxima and does
not halve.
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

MAX_FRAMES = 15
"""Of a chunk; longer scenes are cut."""


def depth_scores(features: Float[Tensor, "frames dim"]) -> Float[Tensor, " gaps"]:
    """Fall of the likeness of neighbouring frames at each gap, against the heights on both sides."""
    if len(features) < 2:
        return features.new_empty(0)
    likeness = cosine_similarity(features[:-1], features[1:], dim=-1)
    left = likeness.cummax(0).values
    right = likeness.flip(0).cummax(0).values.flip(0)
    left[0], right[-1] = 0, 0
    return (left + right - 2 * likeness) / 2


def split_points(features: Float[Tensor, "frames dim"]) -> list[int]:
    """Frames that open a scene, where the depth is more than a deviation above its mean."""
    depth = depth_scores(features)
    if len(depth) < 2:
        return []
    return (depth > depth.mean() + depth.std()).nonzero()[:, 0].tolist()


def chunk_frames(features: Float[Tensor, "frames dim"]) -> list[int] | None:
    """Frames of each chunk, MAX_FRAMES at most; None where no change stands out: chunks of fixed length."""
    points = split_points(features)
    if not points:
        return None
    scenes = [end - start for start, end in pairwise([0, *points, len(features)])]
    return [frames for scene in scenes for frames in _capped(scene)]


def _capped(scene: int) -> list[int]:
    full, rest = divmod(scene, MAX_FRAMES)
    return [MAX_FRAMES] * full + [rest] * (rest > 0)
