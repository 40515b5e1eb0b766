"""`x2l fit`: train a checkpoint from a recipe."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Train a checkpoint from a recipe.")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Checkpoints go here; a run that was stopped goes on from them.",
)
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True, help="Data processes.")
def fit(recipe: Path, out: Path, workers: int) -> None:
    """Train by RECIPE, such as recipes/train_tiny.yaml, and print the folder of the last checkpoint."""
    from x2l.training.fit import fit as run

    click.echo(run(recipe, out, num_workers=workers))
