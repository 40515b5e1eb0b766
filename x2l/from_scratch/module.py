"""The base of every stage: one step of Muon and AdamW per batch, counted."""

from __future__ import annotations

import lightning
import torch
from torch import Tensor

from x2l.from_scratch.optim import warmup_then_linear_decay


class TrainingModule(lightning.LightningModule):
    """A stage of `num_steps` batches. `step` counts those behind it, and so does each of its checkpoints.

    Lightning's own global_step counts the steps of every optimizer: two for each batch.
    """

    def __init__(self, num_steps: int, muon_lr: float, adamw_lr: float, flat_share: float = 0.5):
        super().__init__()
        self.num_steps, self.learning_rates = num_steps, (muon_lr, adamw_lr)
        self.flat_share = flat_share
        # Lightning's automatic optimisation knows one optimizer only.
        self.automatic_optimization = False
        self.step = 0

    def learn(self, loss: Tensor, lr_factor: float = 1.0, max_grad_norm: float = float("inf")) -> None:
        """One step of every optimizer down the gradient of `loss`."""
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parameters(), max_grad_norm)
        factor = lr_factor * warmup_then_linear_decay(self.step, self.num_steps, 100, self.flat_share)
        for optimizer, lr in zip(optimizers, self.learning_rates, strict=True):
            optimizer.param_groups[0]["lr"] = lr * factor
            optimizer.step()
        self.step += 1

    def on_save_checkpoint(self, checkpoint) -> None:
        checkpoint["x2l_step"] = self.step

    def on_load_checkpoint(self, checkpoint) -> None:
        self.step = checkpoint["x2l_step"]
