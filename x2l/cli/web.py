"""`x2l web`: a page in the browser."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import Any

import click

from x2l.cli.options import Options, generation_options, shared_options, source_argument


@click.command(short_help="A page in the browser: ask, and see what was looked at.")
@source_argument(required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Who is let in: 0.0.0.0 is everyone.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=7860, show_default=True, help="Of the address."
)
@click.option(
    "--max-upload",
    metavar="MB",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Largest video that is taken from a visitor.",
)
@generation_options
@shared_options
def web(
    source: str | None, host: str, port: int, max_upload: int, generation: dict[str, Any], options: Options
) -> None:
    """Serve a page that asks about SOURCE (a video file), a sample, or a video that is uploaded.

    It shows which chunks an answer was given from, and what its cache holds. Two settings can answer the same
    question side by side. Uploads are removed with their visit, or when the command ends.
    """
    if find_spec("gradio") is None:
        raise click.UsageError("needs the package gradio (pip install 'x2l[web]')")

    from x2l.cli import setup
    from x2l.config.paths import local_path
    from x2l.video import is_stills
    from x2l.web.offered import Offered, sample

    offered = sample()
    recipe = setup.make_recipe(options)
    open_video = partial(setup.open_with, recipe, options=options)
    if source is not None:
        path = local_path(source)
        if is_stills(path) or path.is_dir():
            raise click.UsageError(f"{source}: expected a video file, which a browser can play")
        open_video(source)
        offered = Offered(path, f"Open {path.name}")
    backbone = setup.make_pipeline(recipe, not options.quiet).backbone

    # Gradio takes seconds to import; what is refused is refused before.
    from x2l.web.serve import serve
    from x2l.web.studio import Studio
    from x2l.web.uploads import uploads

    with uploads() as folder:
        studio = Studio(recipe, backbone, open_video, folder, generation)
        serve(studio, offered, host, port, max_upload * 10**6, _tell)


def _tell(address: str) -> None:
    click.echo(f"x2l web: {address}  (Ctrl+C ends it)")
