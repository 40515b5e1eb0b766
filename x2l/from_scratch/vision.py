"""First stage: the tower and the projector learn to read needle frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from x2l.from_scratch.frames import CARD_LABELS, SCENE_LABELS
from x2l.from_scratch.module import TrainingModule
from x2l.from_scratch.optim import muon_and_adamw
from x2l.networks.video_xl import VideoXLForCausalLM


class VisionModule(TrainingModule):
    """Every visual token names the card of its own cell and the scene, by linear heads that are thrown away.

    A token that carries its whole cell makes VSTs responsible for compression only, not for seeing.
    """

    def __init__(self, network: VideoXLForCausalLM, num_steps: int, muon_lr: float, adamw_lr: float):
        super().__init__(num_steps, muon_lr, adamw_lr)
        self.network = network
        hidden = network.config.hidden_size
        self.heads = nn.ModuleDict(
            {name: nn.Linear(hidden, len(classes)) for name, classes in (CARD_LABELS | SCENE_LABELS).items()}
        )

    def configure_optimizers(self):
        seen = [self.network.model.vision_tower, self.network.model.mm_projector, self.heads]
        return muon_and_adamw(seen, *self.learning_rates)

    def training_step(self, batch: Sequence[Tensor | dict[str, Tensor]], _) -> dict[str, Tensor]:
        pixels, labels = batch
        loss, accuracies = self._losses(self.network.visual_tokens(pixels), labels)
        self.learn(loss)
        return {"loss": loss.detach(), **accuracies}

    def _losses(self, tokens: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss, and accuracy for each kind of label."""
        cell_of_token = cells(tokens.shape[1]).to(tokens.device)
        losses, accuracies = [], {}
        for name, head in self.heads.items():
            target = labels[name]
            target = (
                target[:, cell_of_token] if target.ndim == 2 else target[:, None].expand(tokens.shape[:2])
            )
            logits = head(tokens).flatten(0, 1).float()
            losses.append(cross_entropy(logits, target.flatten()))
            accuracies[name] = (logits.argmax(-1) == target.flatten()).float().mean()
        return torch.stack(losses).mean(), accuracies


def cells(num_tokens: int) -> Tensor:
    """Which cell of the 2x2 grid each token of a frame lies in, row-major."""
    side = int(num_tokens**0.5)
    half = torch.arange(side) * 2 // side
    return (2 * half[:, None] + half).flatten()
