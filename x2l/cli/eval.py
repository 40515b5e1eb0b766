"""`x2l eval`: one table from a recipe."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("eval", short_help="Measure the rows of a recipe on the same questions.")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Results go here; a run that was stopped goes on from them.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a field, by dotted key."
)
@click.option("--quiet", is_flag=True, help="No progress bars.")
def evaluate(recipe: Path, out: Path, overrides: tuple[str, ...], quiet: bool) -> None:
    """Ask all rows of RECIPE, such as recipes/spine.yaml, the same questions and print the table.

    DIR holds results.jsonl (every answer), summary.json and table.md.
    """
    from x2l.evaluation import run

    run(recipe, out, overrides, progress=not quiet)
    click.echo((out / "table.md").read_text(encoding="utf-8"))
