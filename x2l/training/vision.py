"""First stage: the tower and the projector learn to read needle frames."""

from __future__ import annotations

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from x2l.backbones._video_xl_model import VideoXLForCausalLM
from x2l.training.frames import CARD_LABELS, SCENE_LABELS
from x2l.training.optim import muon_and_adamw, warmup_then_linear_decay


class VisionModule(lightning.LightningModule):
    """Every visual token names the card of its own cell and the scene, by linear heads that are thrown away.

    A token that carries its whole cell makes VSTs responsible for compression only, not for seeing.
    """

    def __init__(self, network: VideoXLForCausalLM, num_steps: int, muon_lr: float, adamw_lr: float):
        super().__init__()
        self.network = network
        self.num_steps, self.muon_lr, self.adamw_lr = num_steps, muon_lr, adamw_lr
        hidden = network.config.hidden_size
        self.heads = nn.ModuleDict(
            {name: nn.Linear(hidden, len(classes)) for name, classes in (CARD_LABELS | SCENE_LABELS).items()}
        )
        self.automatic_optimization = False
        self.step = 0

    def configure_optimizers(self):
        seen = [self.network.model.vision_tower, self.network.model.mm_projector, self.heads]
        return muon_and_adamw(seen, self.muon_lr, self.adamw_lr)

    def training_step(self, batch: tuple[Tensor, dict[str, Tensor]], _) -> None:
        pixels, labels = batch
        loss, accuracies = self._losses(self.network.visual_tokens(pixels), labels)
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        factor = warmup_then_linear_decay(self.step, self.num_steps, warmup=100)
        for optimizer, lr in zip(optimizers, (self.muon_lr, self.adamw_lr), strict=True):
            optimizer.param_groups[0]["lr"] = lr * factor
            optimizer.step()
        self.step += 1
        self.log_dict({"loss": loss, **accuracies}, prog_bar=True)

    def on_save_checkpoint(self, checkpoint) -> None:
        checkpoint["x2l_step"] = self.step

    def on_load_checkpoint(self, checkpoint) -> None:
        self.step = checkpoint["x2l_step"]

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
