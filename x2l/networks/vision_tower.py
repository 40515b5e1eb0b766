"""Video-XL's visual side: frames -> CLIP patches -> projector -> pooled visual tokens.

Source: Video-XL (arXiv 2409.14485), section 3.1, and its released configuration.
"""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from x2l.types import X2LError

_POOLS = {"average": nn.functional.avg_pool2d, "max": nn.functional.max_pool2d}


class VisionTower(nn.Module):
    """CLIP's vision transformer up to the selected layer, without the final norm."""

    def __init__(self, config: CLIPVisionConfig, select_layer: int):
        super().__init__()
        self.vision_tower = nn.Module()
        self.vision_tower.vision_model = CLIPVisionModel(config)
        self.num_layers = select_layer % (config.num_hidden_layers + 1)

    def forward(self, pixels: Float[Tensor, "frames 3 size size"]) -> Float[Tensor, "frames patches dim"]:
        return self._selected(pixels)[:, 1:]

    def summary(self, pixels: Float[Tensor, "frames 3 size size"]) -> Float[Tensor, "frames dim"]:
        """The selected layer's CLS, one vector for each frame."""
        return self._selected(pixels)[:, 0]

    def _selected(self, pixels: Float[Tensor, "frames 3 size size"]) -> Float[Tensor, "frames tokens dim"]:
        clip = self.vision_tower.vision_model
        hidden = clip.pre_layrnorm(clip.embeddings(pixels))
        for layer in clip.encoder.layers[: self.num_layers]:
            hidden = layer(hidden, None)
        return hidden


def projector(vision_dim: int, hidden_dim: int) -> nn.Sequential:
    """Two layers with an exact GELU ("mlp2x_gelu")."""
    return nn.Sequential(nn.Linear(vision_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim))


def pool(
    patches: Float[Tensor, "frames patches dim"], stride: int, mode: str
) -> Float[Tensor, "frames tokens dim"]:
    """Pool the square patch grid by `stride` in both directions ("average" or "max"), row-major.

    Raises X2LError for another mode.
    """
    if mode not in _POOLS:
        raise X2LError(f"mm_spatial_pool_mode: expected one of {', '.join(_POOLS)}, got {mode!r}")
    side = int(patches.shape[1] ** 0.5)
    grid = rearrange(patches, "f (h w) d -> f d h w", h=side)
    pooled = _POOLS[mode](grid, stride)
    return rearrange(pooled, "f d h w -> f (h w) d")
