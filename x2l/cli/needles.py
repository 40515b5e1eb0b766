"""`x2l needles`: write needle videos and their questions."""

from __future__ import annotations

from pathlib import Path

import click

from x2l.cli.options import out_option


@click.command(short_help="Write needle videos with questions.")
@out_option("Folder.")
@click.option("--num", type=click.IntRange(min=1), default=10, show_default=True, help="Videos.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Equal seeds, equal videos."
)
@click.option(
    "--chunks", type=click.IntRange(min=1), default=16, show_default=True, help="Scenes of 10 s per video."
)
@click.option(
    "--split", type=click.Choice(["train", "eval"]), default="eval", show_default=True, help="Footage."
)
@click.option("--quiet", is_flag=True, help="No progress bars.")
def needles(out: Path, num: int, seed: int, chunks: int, split: str, quiet: bool) -> None:
    """Write H.264 videos of numbered cards over real footage, and questions.json with the answers."""
    from x2l.needles.dataset import write_dataset

    click.echo(write_dataset(out, num=num, seed=seed, chunks=chunks, split=split, progress=not quiet))
