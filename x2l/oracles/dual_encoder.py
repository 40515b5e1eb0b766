"""Likeness of the question and the frames in the space that an image-text model was trained for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Backbone, Oracle
from x2l.oracles._image_text import ImageText, fingerprint, load
from x2l.rounding import in_full_precision
from x2l.types import Chunk, Question, VideoIndex, X2LError

WEIGHTS = Path(__file__).parent / "weights" / "dual_encoder"


@dataclass
class DualEncoder(Oracle):
    """Cosine of the question and each frame by CLIP or SigLIP, pooled over a chunk's frames.

    model: a checkpoint folder, or the name of a model on the hub; None: the embedded one, which knows needle
        videos and their words only.
    pool: how the scores of a chunk's frames become one; "top2_mean" is the mean of the two highest.
    device: where the towers compute; None: where the backbone does.

    The text is the question without its options, which would not fit into 77 or 64 tokens.

    Source: Video-X^2L (arXiv 2506.21184), section 3.4 and Table 3, row "SigLip".
    Differs: the paper names the model, but not how the scores of frames are pooled; the mean is the
    literature's.
    """

    not_prepared = frozenset({"model", "pool", "device"})  # the weights themselves are in the key

    model: str | None = None
    pool: Literal["mean", "max", "top2_mean"] = "mean"
    device: str | None = None

    @property
    def identity(self) -> str:
        return fingerprint(self._checkpoint)

    @property
    def _checkpoint(self) -> str:
        return self.model or str(WEIGHTS)

    def prepare(self, chunk: Chunk, backbone: Backbone) -> dict[str, Tensor]:
        """One embedding per frame. Raises X2LError for a chunk without frames."""
        if chunk.frames is None:
            raise X2LError(f"oracle dual_encoder: chunk {chunk.index} holds no frames, only visual tokens")
        towers = self._towers(chunk.visual_tokens.device)
        return {"frames": towers.embed_frames(chunk.frames)}

    def score(self, question: Question, index: VideoIndex, backbone: Backbone) -> Float[Tensor, " chunks"]:
        features, towers = self.features(index), self._towers(backbone.device)
        text = towers.embed_text(question.text).cpu()
        with in_full_precision("cpu"):
            return torch.stack([pooled(stored["frames"].cpu() @ text, self.pool) for stored in features])

    def _towers(self, device: torch.device) -> ImageText:
        return load(self._checkpoint, self.device or str(device))


def pooled(frame_scores: Float[Tensor, " frames"], pool: str) -> Float[Tensor, ""]:
    """The score of a chunk, by the names of `DualEncoder.pool`."""
    if pool == "top2_mean":
        return frame_scores.topk(min(2, len(frame_scores))).values.mean()
    return getattr(frame_scores, pool)()
