"""x2l-tiny: the embedded Video-XL at a small size, trained by this project on needle videos."""

from __future__ import annotations

from pathlib import Path

from x2l.backbones.video_xl import VideoXL

WEIGHTS = Path(__file__).parent / "weights" / "x2l_tiny"


class X2LTiny(VideoXL):
    """The embedded Video-XL at a small size; it knows the words of needle questions only.

    Source: this project, recipes/train_tiny.yaml; architecture of Video-XL (arXiv 2409.14485).
    """

    @classmethod
    def from_pretrained(
        cls,
        model: str | None = None,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        attention: str = "sdpa",
        frames_per_batch: int = 64,
    ) -> X2LTiny:
        """The shipped checkpoint, or another folder of the same kind."""
        return super().from_pretrained(
            model or str(WEIGHTS),
            device=device,
            dtype=dtype,
            attention=attention,
            frames_per_batch=frames_per_batch,
        )
