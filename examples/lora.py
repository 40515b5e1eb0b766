"""LoRA post-training by Lightning, on videos that are drawn on the fly: python examples/lora.py [--quick]

It takes minutes on a CPU. A training that counts has a recipe, with held-out questions, checkpoints and
merged weights: `x2l fit recipes/lora.yaml` (docs/post_training.md).
"""

import logging
import sys

import lightning

from x2l.training.qa_data import VideoQADataModule
from x2l.training.trainable import LoRA
from x2l.training.x2l_module import X2LModule

PIPELINE = {"backbone": "x2l_tiny", "oracle": "attention", "selector": {"name": "top_k", "k": 3}}
ADAPTERS = LoRA(rank=16, alpha=32.0, targets=["q_proj", "k_proj", "v_proj", "o_proj"])
QUESTIONS = {"tally": 4, "count": 2}  # what x2l-tiny is worst at


class Losses(lightning.Callback):
    """Prints the loss of each step, and keeps it."""

    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, module, outputs, batch, number):
        self.values.append(float(outputs["loss"]))
        print(f"step {trainer.global_step}: loss {self.values[-1]:.3f}", flush=True)


def main(quick: bool) -> tuple[list[float], X2LModule]:
    """Train; returns the losses, and the module, whose pipeline answers with the adapters."""
    num_steps, scenes = (3, [2, 2]) if quick else (12, [4, 6])
    lightning.seed_everything(0, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # What is trained is the pipeline that answers: the same recipe, the same lines.
    module = X2LModule(PIPELINE, trains=["lora"], lora=ADAPTERS, num_steps=num_steps, lr=1e-3)
    drawn = {"name": "needles", "num": num_steps, "seed": 1, "chunks": scenes, "questions": QUESTIONS}
    losses = Losses()
    trainer = lightning.Trainer(
        max_steps=num_steps,
        callbacks=[losses],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, VideoQADataModule(drawn, num_steps=num_steps))
    return losses.values, module


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
