"""A stage of training from nothing: one loop, one folder, and what is shipped of it."""

from __future__ import annotations

from pathlib import Path

import click
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from x2l.from_scratch.module import TrainingModule
from x2l.storage.files import bytes_in
from x2l.training.checkpoint import release
from x2l.training.loop import accelerator_of, train
from x2l.training.recipe import TrainingRecipe


def train_stage(module: TrainingModule, data, recipe: TrainingRecipe, folder: Path, num_workers: int) -> None:
    """Train a module on data, as the recipe says and from where the folder stands."""
    train(
        module,
        data,
        folder,
        accelerator=accelerator_of(recipe.accelerator),
        precision=recipe.precision,
        checkpoint_every=recipe.checkpoint_every,
        num_workers=num_workers,
    )


def release_stage(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, with_vsts: bool = True
) -> None:
    """Write the folder that is shipped, and say how large it is."""
    release(network, tokenizer, folder, with_vsts)
    click.echo(f"x2l: {folder}: {bytes_in(folder) / 1e6:.1f} MB", err=True)
