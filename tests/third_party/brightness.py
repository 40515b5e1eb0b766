"""An oracle as a user would write one: a file of its own that x2l knows nothing about."""

from dataclasses import dataclass

import torch

from x2l import Oracle, register


@register("brightness")
@dataclass
class Brightness(Oracle):
    """Bright chunks first, or dark ones, whatever the question.

    Source: none, an example.
    """

    prefer: str = "bright"

    def prepare(self, chunk, backbone):
        return {"mean": torch.tensor([chunk.frames.mean()], dtype=torch.float32)}

    def score(self, question, index, backbone):
        means = torch.cat([features["mean"] for features in self.features(index)])
        return means if self.prefer == "bright" else -means
