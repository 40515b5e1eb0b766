"""`x2l fit`: train a checkpoint from a recipe."""

from __future__ import annotations

from pathlib import Path

import click

from x2l.cli.options import out_option, plugin_option, set_option


@click.command(short_help="Train a checkpoint from a recipe.")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@out_option("Checkpoints go here; a run that was stopped goes on from them.")
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True, help="Data processes.")
@set_option("Any field of the recipe, such as lr=1e-5; repeatable.")
@plugin_option
def fit(
    recipe: Path, out: Path, workers: int, assignments: tuple[str, ...], plugins: tuple[str, ...]
) -> None:
    """Train by RECIPE, such as recipes/train_tiny.yaml, and print the folder of the last checkpoint."""
    from lightning.pytorch.utilities import rank_zero_only

    from x2l.evaluation.figures import draw_training
    from x2l.from_scratch.dual_encoder_recipe import DualEncoderRecipe
    from x2l.from_scratch.recipe import TinyRecipe
    from x2l.from_scratch.towers import fit_dual_encoder
    from x2l.from_scratch.x2l_tiny import fit_x2l_tiny
    from x2l.registry import load_plugin
    from x2l.training.fit import fit as run
    from x2l.training.held_out import HELD_OUT
    from x2l.training.loop import LOG, read_log
    from x2l.training.post_training import fit_video_qa
    from x2l.training.qa_recipe import VideoQARecipe

    kinds = {
        "x2l_tiny": (TinyRecipe, fit_x2l_tiny),
        "dual_encoder": (DualEncoderRecipe, fit_dual_encoder),
        "video_qa": (VideoQARecipe, fit_video_qa),
    }

    for plugin in plugins:
        load_plugin(plugin)
    folder = run(recipe, out, kinds, num_workers=workers, overrides=assignments)
    if rank_zero_only.rank == 0:  # of the processes that train together, one speaks
        for log in out.rglob(LOG):
            draw_training(read_log(log), read_log(log.with_name(HELD_OUT)), log.parent)
        click.echo(folder)
