"""Chunker "scenes": a video is cut where what its frames show changes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity
from tqdm import tqdm

from x2l.errors import require
from x2l.interfaces import Backbone, Chunker
from x2l.video import Footage, equal_parts


@dataclass
class Scenes(Chunker):
    """Dynamic chunks: scenes, found in a first pass over the frames.

    max_frames: of a chunk; longer scenes are cut. still_frames: of each chunk where no change stands out.

    Source: Video-XL (arXiv 2409.14485), section 3.3, as coded in the release of Video-X^2L, where it is
    switched off. Differs: the paper's depth score leaves s_i out of the maxima and does not halve.
    """

    max_frames: int = 15
    still_frames: int = 10

    requires = frozenset({"frame_features"})

    def __post_init__(self):
        for name in ("max_frames", "still_frames"):
            require(getattr(self, name) >= 1, f"chunk_frames.{name}", "1 or more", getattr(self, name))

    def lengths(self, video: Footage, backbone: Backbone | None, progress: bool = False) -> list[int]:
        equal = video.equal_parts(self.still_frames)
        clips = tqdm(
            video.clips(equal), "find scenes", len(equal), unit="chunk", delay=1, disable=not progress
        )
        features = torch.cat([backbone.frame_features(clip.frames).float() for clip in clips])
        return scene_lengths(features, self.max_frames) or equal


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


def scene_lengths(features: Float[Tensor, "frames dim"], max_frames: int = 15) -> list[int] | None:
    """Frames of each scene, `max_frames` at most; None where no change stands out."""
    points = split_points(features)
    if not points:
        return None
    scenes = [end - start for start, end in pairwise([0, *points, len(features)])]
    return [frames for scene in scenes for frames in equal_parts(scene, max_frames)]
