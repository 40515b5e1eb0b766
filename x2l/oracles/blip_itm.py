"""Whether the question is said of a frame, by a head that was trained to match images and texts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from x2l.interfaces import Backbone, Oracle
from x2l.oracles._checkpoint import fingerprint
from x2l.oracles._image_text import FRAMES_PER_BATCH, ImageText, Pool, frames_of, load, pooled
from x2l.rounding import in_full_precision
from x2l.types import Chunk, Question, VideoIndex


@dataclass
class BlipITM(Oracle):
    """Probability of BLIP's matching head that the question fits a frame, pooled over a chunk's frames.

    model: a checkpoint folder, or the name of a model on the hub.
    pool: how the scores of a chunk's frames become one; "top2_mean" is the mean of the two highest.
    device: where the towers compute; None: where the backbone does.

    The head reads question and frame together, so no single embedding can be stored: an index keeps every
    patch of every frame (fp16, 0.9 MB per frame at 384 pixels), and a question costs a pass of the text tower
    over each frame. The cosine of BLIP's two towers, which costs neither, is `dual_encoder` with this model.

    Source: BLIP (arXiv 2201.12086), section 3.2, image-text matching.
    Differs: Video-X^2L does not measure this model.
    """

    not_prepared = frozenset({"model", "pool", "device"})  # the weights themselves are in the key

    model: str = "Salesforce/blip-itm-base-coco"
    pool: Pool = "mean"
    device: str | None = None

    @property
    def identity(self) -> str:
        return fingerprint(self.model)

    @torch.no_grad()
    def prepare(self, chunk: Chunk, backbone: Backbone) -> dict[str, Tensor]:
        """Hidden states of the image tower [frames, patches + 1, width], in half precision.

        Raises X2LError for a chunk without frames.
        """
        frames, towers = frames_of(chunk, "blip_itm"), self._towers(chunk.visual_tokens.device)
        vision = towers.network.vision_model
        return {"frames": towers.by_frame(frames, lambda **inputs: vision(**inputs).last_hidden_state).half()}

    @torch.no_grad()
    def score(self, question: Question, index: VideoIndex, backbone: Backbone) -> Float[Tensor, " chunks"]:
        features, towers = self.features(index), self._towers(backbone.device)
        ids = towers.ids(question.text)
        with in_full_precision(towers.network.device.type):
            matches = [matched(towers, ids, stored["frames"]).cpu() for stored in features]
        return torch.stack([pooled(by_frame, self.pool) for by_frame in matches])

    def _towers(self, device: torch.device) -> ImageText:
        return load(self.model, self.device or str(device), ("blip",))


def matched(
    towers: ImageText, ids: Int[Tensor, "1 tokens"], frames: Float[Tensor, "frames patches width"]
) -> Float[Tensor, " frames"]:
    """Probability that a text fits each frame, whose hidden states are given."""
    network, scores = towers.network, []
    for batch in frames.split(FRAMES_PER_BATCH):
        seen = batch.to(network.device, network.dtype)
        read = network.text_encoder(ids.expand(len(seen), -1), encoder_hidden_states=seen).last_hidden_state
        scores.append(network.itm_head(read[:, 0]).softmax(dim=-1)[:, 1])
    return torch.cat(scores)
