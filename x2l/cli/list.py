"""`x2l list`: the videos of a library."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("list", short_help="List the videos of a library.")
@click.argument("library")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_videos(library: str, as_json: bool) -> None:
    """List the videos of LIBRARY, which `x2l index FOLDER` makes, with what their indices take.

    Videos of one key are the same, indexed alike, and share an index.
    """
    from x2l.cli import texts
    from x2l.config.paths import local_path
    from x2l.storage.library import Library

    entries = dict(Library(local_path(library)).items())
    if as_json:
        click.echo(json.dumps({name: asdict(entry) for name, entry in entries.items()}, indent=1))
        return
    width = max(map(len, entries), default=0)
    for name, each in entries.items():
        frames, took = f"{each.num_frames:,} frames", texts.size(each.index_bytes)
        click.echo(f"{name:{width}}  {each.duration_s:8.1f} s  {frames:>13}  {took:>8}  {each.key[:8]}")
    taken = {each.key: each.index_bytes for each in entries.values()}
    click.echo(f"{len(entries)} videos, {len(taken)} indices, {texts.size(sum(taken.values()))}")
