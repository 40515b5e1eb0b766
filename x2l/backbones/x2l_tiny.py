"""x2l-tiny: the embedded Video-XL at a small size, trained by this project on needle videos."""

from __future__ import annotations

from pathlib import Path

from x2l.backbones.video_xl import VideoXL
from x2l.costs.flops import DecoderSizes, TowerSizes, mlp
from x2l.costs.sizes import BackboneSizes

WEIGHTS = Path(__file__).parent / "weights" / "x2l_tiny"


class X2LTiny(VideoXL):
    """The embedded Video-XL at a small size; it knows the words of needle questions only.

    Source: this project, recipes/train_tiny.yaml; architecture of Video-XL (arXiv 2409.14485).
    """

    sizes = BackboneSizes(
        "x2l-tiny",
        DecoderSizes(192, 576, 5, 3, 3, 64, 112),
        TowerSizes(128, 384, 4, 65, behind=mlp(128, 192, 192)),
        16,
        vst=True,
        stops_early=True,
    )

    model_types = frozenset()  # other weights of this architecture are a Video-XL's
    default_model = str(WEIGHTS)
