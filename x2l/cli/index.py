"""`x2l index`: pre-fill a video once, to be asked as often as wanted."""

from __future__ import annotations

from dataclasses import replace

import click

from x2l.cli.options import Options, shared_options


@click.command(short_help="Pre-fill a video once and keep its KVs.")
@click.argument("video")
@click.option("-o", "--out", metavar="DIR", required=True, help="Where the index goes; an index is replaced.")
@shared_options
def index(video: str, out: str, options: Options) -> None:
    """Pre-fill VIDEO once and keep its KVs as an index directory, which `x2l ask` takes for a video.

    The directory remembers the options: asking uses them unless it is given others.
    """
    from x2l.cli import report, setup
    from x2l.config.paths import local_path
    from x2l.storage import store

    store.require_replaceable(local_path(out))
    recipe = setup.make_recipe(options)
    opened = setup.open_with(recipe, video, options)
    progress = not options.quiet
    made = setup.make_pipeline(recipe, progress).index(opened, progress)
    kept = {**setup.remembered(recipe), **made.spec.recipe}
    store.save(replace(made, spec=replace(made.spec, recipe=kept)), out)
    if progress:
        click.echo(report.index_text(made, out))
