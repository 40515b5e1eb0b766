"""`x2l compare`: two runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import click

from x2l.cli.options import RUN


@click.command(short_help="Two runs of x2l eval side by side, with paired differences.")
@click.argument("one", type=RUN)
@click.argument("other", type=RUN)
@click.option("--rows", nargs=2, metavar="ROW ROW", help="Of ONE and of OTHER; by default those alike.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compare(one: Path, other: Path, rows: tuple[str, str] | None, as_json: bool) -> None:
    """Accuracy of the same questions in two folders that `x2l eval` wrote, and what OTHER gains.

    Rows of the same name are compared, or the only row of each. What one of them has not answered is left
    out and counted.

    \b
    x2l compare runs/mlvu runs/mlvu_qwen2_5_vl
    x2l compare runs/table1 runs/mine --rows "uniform 2x" mine
    """
    from x2l.evaluation.compare import compare_runs, table_of

    compared = compare_runs(one, other, rows)
    click.echo(json.dumps(compared, indent=1) if as_json else table_of(compared))
