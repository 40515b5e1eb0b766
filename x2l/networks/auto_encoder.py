"""Video-XL-2's auto-encoder: four frames of patch features become one.

Source: Video-XL-2 (arXiv 2506.19225), section 3.1; module names and quirks are those of its checkpoint.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention, softmax

FRAMES_PER_GROUP = 4
GROUPS_PER_BATCH = 24
MAX_DISTANCE = 64

Video = Float[Tensor, "groups channels time height width"]


class SpatioTemporalEncoder(nn.Module):
    """Twice: attention within frames, attention over time, and a convolution that halves the time."""

    def __init__(self, channels: int):
        super().__init__()
        self.temporal_encoding = nn.Parameter(torch.zeros(FRAMES_PER_GROUP, channels))
        self.encoder = nn.ModuleList(
            kind(channels) for _ in range(2) for kind in (SpatialAttention, TemporalAttention, HalveTime)
        )

    def forward(
        self, frames: Float[Tensor, "frames channels height width"]
    ) -> Float[Tensor, "groups channels height width"]:
        """Groups of four consecutive frames; the last frame is repeated until they are full."""
        missing = -len(frames) % FRAMES_PER_GROUP
        frames = torch.cat((frames, frames[-1:].expand(missing, -1, -1, -1)))
        groups = self.scrambled(frames).split(GROUPS_PER_BATCH)
        return torch.cat([self._encode(group) for group in groups])

    @staticmethod
    def scrambled(frames: Float[Tensor, "frames channels height width"]) -> Video:
        """Groups of four frames with channels in front of time, by re-reading the memory as it lies.

        The released code does not permute, so that channels and times are mixed up; its weights were
        trained that way.
        """
        _, channels, height, width = frames.shape
        return frames.reshape(-1, channels, FRAMES_PER_GROUP, height, width)

    def _encode(self, video: Video) -> Float[Tensor, "groups channels height width"]:
        video = video + self.temporal_encoding.T[None, :, :, None, None]
        for block in self.encoder:
            video = block(video)
        return video.squeeze(2)


class SpatialAttention(nn.Module):
    """One head over the positions of each frame."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        for name in ("q", "k", "v", "proj_out"):
            self.add_module(name, nn.Conv3d(channels, channels, kernel_size=1))

    def forward(self, video: Video) -> Video:
        normed = self.norm(video)
        query, key, value = (
            rearrange(project(normed), "g c t h w -> (g t) 1 (h w) c") for project in (self.q, self.k, self.v)
        )
        seen = scaled_dot_product_attention(query, key, value)
        time, height = video.shape[2:4]
        seen = rearrange(seen, "(g t) 1 (h w) c -> g c t h w", t=time, h=height)
        return video + self.proj_out(seen)


class RelativePosition(nn.Module):
    """A vector for each distance in time, up to a longest one."""

    def __init__(self, channels: int):
        super().__init__()
        self.embeddings_table = nn.Parameter(torch.zeros(2 * MAX_DISTANCE + 1, channels))

    def forward(self, length: int) -> Float[Tensor, "length length channels"]:
        """At [i, j], that of j - i."""
        times = torch.arange(length, device=self.embeddings_table.device)
        distance = (times[None, :] - times[:, None]).clamp(-MAX_DISTANCE, MAX_DISTANCE)
        return self.embeddings_table[distance + MAX_DISTANCE]


class TemporalAttention(nn.Module):
    """One head over time at each position, with relative positions."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.qkv = nn.Conv1d(channels, 3 * channels, kernel_size=1)
        self.relative_position_k = RelativePosition(channels)
        self.relative_position_v = RelativePosition(channels)
        self.proj_out = nn.Conv1d(channels, channels, kernel_size=1)

    def forward(self, video: Video) -> Video:
        rows = rearrange(video, "g c t h w -> (g h w) c t")
        query, key, value = self.qkv(self.norm(rows)).mT.chunk(3, dim=-1)
        scale = query.shape[-1] ** -0.25
        query, key = query * scale, key * scale
        length = query.shape[1]
        # Who asks and who is asked have changed places in this term of the released code: q of j, and i - j.
        relative = torch.einsum("njc,jic->nij", query, self.relative_position_k(length))
        weights = softmax((query @ key.mT + relative).float(), dim=-1).to(value.dtype)
        seen = weights @ value + torch.einsum("nij,ijc->nic", weights, self.relative_position_v(length))
        made = rearrange(
            self.proj_out(seen.mT), "(g h w) c t -> g c t h w", h=video.shape[3], w=video.shape[4]
        )
        return video + made


class HalveTime(nn.Module):
    """A 3 x 3 x 3 convolution with stride 2 in time that sees the present and the past."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, kernel_size=3, stride=(2, 1, 1))

    def forward(self, video: Video) -> Float[Tensor, "groups channels half height width"]:
        return self.conv(pad(video, (1, 1, 1, 1, 1, 0), mode="replicate"))
