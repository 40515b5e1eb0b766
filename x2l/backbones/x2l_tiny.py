"""x2l-tiny: the embedded Video-XL at a small size, trained by this project on needle videos."""

from __future__ import annotations

from pathlib import Path

from x2l.backbones.video_xl import VideoXL

WEIGHTS = Path(__file__).parent / "weights" / "x2l_tiny"


class X2LTiny(VideoXL):
    """The embedded Video-XL at a small size; it knows the words of needle questions only.

    Source: this project, recipes/train_tiny.yaml; architecture of Video-XL (arXiv 2409.14485).
    """

    default_model = str(WEIGHTS)
