"""InternVL as transformers has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from x2l.costs.flops import DecoderSizes, TowerSizes, mlp
from x2l.costs.sizes import BackboneSizes
from x2l.engine.reading import Block
from x2l.engine.stock import StockBackbone
from x2l.preprocessing.frames import squares
from x2l.types import Clip


class InternVL(StockBackbone):
    """InternVL: every frame has its number in front of it.

    Source: InternVL3 (arXiv 2504.10479), as in transformers.
    """

    sizes = BackboneSizes(
        "InternVL3-8B",
        DecoderSizes(3584, 18944, 28, 28, 4, 128, 151674),
        TowerSizes(1024, 4096, 24, 1025, behind=mlp(4096, 3584, 3584) // 4),
        256,
        text_per_step=7,
    )

    model_types = frozenset({"internvl"})
    network_parts: ClassVar[dict[str, str]] = {
        "projector": r"multi_modal_projector\.",
        "tower": r"vision_tower\.",
    }
    needed_settings = ("size.height", "size.width", "image_mean", "image_std")

    def tokens_per_step(self, height: int, width: int, num_frames: int) -> int:
        return self.model.config.image_seq_length

    def pieces(self, clip: Clip) -> Iterator[str | Block]:
        pixels = squares(clip.frames, self.settings, self.device)
        config = self.model.config
        seen = self.model.model.get_image_features(
            pixels.to(self.model.dtype),
            vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
        )
        for number, tokens in enumerate(seen.pooler_output, clip.first_frame + 1):
            line = "\n" if number > 1 else ""
            yield f"{line}Frame{number}: {self._token('start_image_token', '<img>')}"
            yield Block(tokens)
            yield self._token("end_image_token", "</img>")

    def _token(self, name: str, default: str) -> str:
        return getattr(self.tokenizer, name, None) or default
