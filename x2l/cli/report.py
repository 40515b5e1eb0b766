"""`x2l report`: a run as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from x2l.cli.options import RUN, file_option


@click.command(short_help="A run of x2l eval as one HTML file to look at.")
@click.argument("runs", metavar="RUN...", type=RUN, nargs=-1, required=True)
@file_option("The page; by default report.html in the first RUN.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def report(runs: tuple[Path, ...], file: Path | None, quiet: bool) -> None:
    """Write a page with the table, claims, figures, and where two rows differ: question by question.

    RUN is a folder that `x2l eval` wrote; of several, the page has the rows of all, on the questions that
    all have answered. It has everything in it and opens from disk.

    \b
    x2l report runs/spine
    x2l report runs/mlvu runs/mlvu_qwen2_5_vl -o both.html
    """
    from x2l.evaluation.report import write_report

    file = file or runs[0] / "report.html"
    write_report(runs, file, not quiet)
    click.echo(file)
