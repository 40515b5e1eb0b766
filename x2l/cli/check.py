"""`x2l check`: whether an index is what was written, and what it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from x2l.types import VideoIndex


@click.command(short_help="Verify an index and tell what it holds.")
@click.argument("directory", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(directory: str, as_json: bool) -> None:
    """Hold everything in the index DIR against its checksums, and tell what it holds.

    What is damaged is named with its file and chunk, with exit code 2.
    """
    from x2l.storage import store
    from x2l.storage.files import bytes_in

    verified = store.verify(directory)
    held = {"verified": verified, "bytes": bytes_in(Path(directory)), **_held(store.load(directory))}
    click.echo(json.dumps(held, indent=1) if as_json else _text(directory, held))


def _held(index: VideoIndex) -> dict[str, Any]:
    """What an index holds, as plain data."""
    chunks, spec = index.chunks, index.spec
    levels = {ratio: [chunk.levels[ratio] for chunk in chunks] for ratio in index.ratios}
    return {
        "chunks": len(chunks),
        "frames": sum(chunk.num_frames for chunk in chunks),
        "start_s": chunks[0].start_s,
        "end_s": chunks[-1].end_s,
        "tokens_full": index.num_visual_tokens,
        "levels": {
            f"{ratio}x": {
                "tokens": sum(level.num_tokens for level in kvs),
                "bytes": sum(level.num_bytes for level in kvs),
            }
            for ratio, kvs in levels.items()
        },
        "oracles": [json.loads(key) for key in chunks[0].features],
        "backbone": spec.backbone,
        "video": dict(spec.video),
        "recipe": dict(spec.recipe),
    }


def _text(directory: str, held: dict[str, Any]) -> str:
    from x2l.cli.texts import size

    video, recipe = held["video"], held["recipe"]
    verified = "every tensor is what was written" if held["verified"] else "no checksums, nothing is verified"
    times = f"{held['start_s']:.1f} - {held['end_s']:.1f} s"
    lines = {
        "bytes": size(held["bytes"]),
        "chunks": f"{held['chunks']} of {held['frames']} frames, {times}, {held['tokens_full']:,} tokens",
        **{
            f"level {name}": f"{level['tokens']:,} tokens, {size(level['bytes'])}"
            for name, level in held["levels"].items()
        },
        "backbone": held["backbone"],
        "video": _fields({name: value for name, value in video.items() if name != "sampling"}),
        "sampling": _fields(video.get("sampling", {})),
        "compressor": _fields(recipe.get("compressor", {})),
        "oracles": "; ".join(map(_fields, held["oracles"])) or "none",
    }
    return "\n".join([f"{directory}: {verified}", *(f"{name:12}{value}" for name, value in lines.items())])


def _fields(spec: dict[str, Any]) -> str:
    """Plain data in one line."""
    return ", ".join(f"{name} {value}" for name, value in spec.items() if value is not None)
