"""Likeness of the question and the frames in the space that an image-text model was trained for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Backbone, Oracle
from x2l.oracles._checkpoint import fingerprint
from x2l.oracles._image_text import ImageText, Pool, frames_of, load, pooled
from x2l.rounding import in_full_precision
from x2l.types import Chunk, Question, VideoIndex

WEIGHTS = Path(__file__).parent / "weights" / "dual_encoder"


@dataclass
class DualEncoder(Oracle):
    """Cosine of the question and each frame by CLIP, SigLIP, SigLIP 2 or BLIP, pooled over a chunk's frames.

    model: a checkpoint folder, or the name of a model on the hub; None: the embedded one, which knows needle
        videos and their words only. Of BLIP an image-text retrieval model, whose matching head is not asked
        (see `blip_itm`).
    pool: how the scores of a chunk's frames become one; "top2_mean" is the mean of the two highest.
    device: where the towers compute; None: where the backbone does.

    An index stores one embedding per frame, a question costs one of a text. That is the question without its
    options, which would not fit into 77 or 64 tokens.

    Source: Video-X^2L (arXiv 2506.21184), section 3.4 and Table 3, row "SigLip".
    Differs: the paper names the model, but not how the scores of frames are pooled; the mean is the
    literature's.
    """

    not_prepared = frozenset({"model", "pool", "device"})  # the weights themselves are in the key

    model: str | None = None
    pool: Pool = "mean"
    device: str | None = None

    @property
    def identity(self) -> str:
        return fingerprint(self._checkpoint)

    @property
    def _checkpoint(self) -> str:
        return self.model or str(WEIGHTS)

    def prepare(self, chunk: Chunk, backbone: Backbone) -> dict[str, Tensor]:
        """One embedding per frame. Raises X2LError for a chunk without frames."""
        frames, towers = frames_of(chunk, "dual_encoder"), self._towers(chunk.visual_tokens.device)
        return {"frames": towers.embed_frames(frames)}

    def score(self, question: Question, index: VideoIndex, backbone: Backbone) -> Float[Tensor, " chunks"]:
        features, towers = self.features(index), self._towers(backbone.device)
        text = towers.embed_text(question.text).cpu()
        with in_full_precision("cpu"):
            return torch.stack([pooled(stored["frames"].cpu() @ text, self.pool) for stored in features])

    def _towers(self, device: torch.device) -> ImageText:
        return load(self._checkpoint, self.device or str(device))
