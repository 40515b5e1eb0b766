"""`x2l eval`: one table from a recipe."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from x2l.cli.options import device_option, dtype_option, out_option, plugin_option


@click.command("eval", short_help="Measure the rows of a recipe on the same questions.")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@out_option("Results go here; a run that was stopped goes on from them.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a field, by dotted key."
)
@click.option("--quick", "size", flag_value="quick", help="A few short videos: two minutes.")
@click.option("--smoke", "size", flag_value="smoke", help="One short video: see that every row runs.")
@plugin_option
@device_option
@dtype_option
@click.option("--index-cache", metavar="DIR", help="Keep indices here, and take them from here.")
@click.option(
    "--index-cache-gb",
    metavar="GB",
    type=click.FloatRange(min=0),
    default=20.0,
    help="Those used least recently go beyond this (default 20).",
)
@click.option("--quiet", is_flag=True, help="No progress bars.")
def evaluate(
    recipe: Path,
    out: Path,
    overrides: tuple[str, ...],
    size: str | None,
    plugins: tuple[str, ...],
    device: str | None,
    dtype: str | None,
    index_cache: str | None,
    index_cache_gb: float,
    quiet: bool,
) -> None:
    """Ask all rows of RECIPE, such as recipes/spine.yaml, the same questions and print the table.

    DIR holds results.jsonl (every answer), summary.json, table.md and figures. Processes that
    torchrun or srun start share the videos.
    """
    from x2l import registry
    from x2l.config.paths import local_path
    from x2l.evaluation import run
    from x2l.storage.library import cache_in

    for plugin in plugins:
        registry.load_plugin(plugin)
    placed = {name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None}
    indices = index_cache and cache_in(local_path(index_cache), int(index_cache_gb * 1e9))
    summary = run(recipe, out, overrides, not quiet, size or "full", placed, indices or None)
    if summary is None:  # of the processes that answer together, one speaks
        return
    click.echo((out / "table.md").read_text(encoding="utf-8"))
    if not quiet:
        click.echo(f"See it: x2l report {shlex.quote(str(out))}", err=True)
