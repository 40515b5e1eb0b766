"""`x2l export`: results for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from x2l.cli.options import RUN, file_option


@click.command(short_help="The table of a run as CSV, LaTeX or Markdown; its answers for lmms-eval.")
@click.argument("run", type=RUN)
@click.option("--format", "name", metavar="NAME", required=True, help="csv, latex, markdown or lmms.")
@click.option("--intervals/--no-intervals", default=True, help="95 % intervals; the default.")
@file_option("Instead of printing it.")
def export(run: Path, name: str, intervals: bool, file: Path | None) -> None:
    """Print the results in RUN, a folder that `x2l eval` wrote.

    csv, latex (booktabs; the best of a column bold) and markdown are the table; lmms has a line of JSON for
    every answer, as lmms-eval logs its samples.

    \b
    x2l export runs/spine --format latex --no-intervals
    x2l export runs/spine --format csv -o spine.csv
    """
    from x2l.errors import unknown
    from x2l.evaluation.exports import FORMATS
    from x2l.storage.files import write_text

    if name not in FORMATS:
        raise unknown(f"--format {name!r}", name, FORMATS)
    text = FORMATS[name](run, intervals)
    if file:
        write_text(file, text)
    else:
        click.echo(text, nl=False)
