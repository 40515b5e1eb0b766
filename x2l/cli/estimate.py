"""`x2l estimate`: costs of a video on a backbone, on paper."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from x2l.cli.options import plugin_option, set_option

if TYPE_CHECKING:
    from x2l.costs.dry_run import Sheet
    from x2l.costs.sizes import BackboneSizes


PLANNED = ("compressor", "selector", "ratios")


@click.command(short_help="Tokens, bytes and FLOPs on paper, for any model and length.")
@click.option("--backbone", metavar="NAME", default="video_xl", show_default=True, help="Whose sizes.")
@click.option("--frames", type=click.IntRange(1, 10**7), required=True, help="Sampled frames of the video.")
@click.option("--frame-size", metavar="WxH", default="640x360", show_default=True, help="Of the video.")
@click.option("--chunk-frames", type=click.IntRange(min=1), help="Frames per chunk; by default the model's.")
@click.option("--question-tokens", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--dtype", default="bf16", show_default=True, help="fp32, bf16 or fp16.")
@set_option("compressor, selector, their fields, or ratios; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@plugin_option
def estimate(
    backbone: str,
    frames: int,
    frame_size: str,
    chunk_frames: int | None,
    question_tokens: int,
    dtype: str,
    assignments: tuple[str, ...],
    as_json: bool,
    plugins: tuple[str, ...],
) -> None:
    """Costs of a video on a backbone: tokens and bytes of its KVs, peak memory, FLOPs.

    Nothing is loaded: sizes are those of the published model that the backbone is named after, and the
    compressor and selector run on tensors without contents. Where a model has no visual summary tokens,
    the compressor is mean_pool.

    \b
    x2l estimate --backbone video_xl --frames 2048
    x2l estimate --backbone qwen3_vl --frames 512 --set ratios=[2,16] --set selector.k=5
    """
    from x2l import registry
    from x2l.costs.dry_run import dry_run
    from x2l.errors import X2LError, unknown
    from x2l.precision import DTYPES
    from x2l.recipe import RECOMMENDED, Recipe

    for plugin in plugins:
        registry.load_plugin(plugin)
    for assignment in assignments:
        if re.split(r"[.=]", assignment)[0] not in PLANNED:
            raise X2LError(f"--set {assignment}: expected one of {', '.join(PLANNED)}")
    if not (size := re.fullmatch(r"(\d+)x(\d+)", frame_size)) or min(map(int, size.groups())) < 1:
        raise X2LError(f"--frame-size: expected width and height such as 640x360, got {frame_size!r}")
    width, height = map(int, size.groups())
    if dtype not in DTYPES:
        raise unknown(f"dtype {dtype!r} has no known size", dtype, DTYPES)
    sizes = _sizes(backbone).at(height, width, frames)
    fitting = {} if sizes.vst else {"compressor": "mean_pool"}
    recipe = Recipe.from_mapping(RECOMMENDED | fitting).apply(assignments)
    sheet = dry_run(
        sizes,
        registry.build("compressor", recipe.compressor),
        registry.build("selector", recipe.selector),
        recipe.ratios,
        frames,
        chunk_frames or sizes.chunk_frames,
        DTYPES[dtype],
        question_tokens,
    )
    click.echo(json.dumps(asdict(sheet), indent=1) if as_json else _text(sheet, sizes.vst))


def _sizes(name: str) -> BackboneSizes:
    """Sizes of the model that a backbone is named after, as the backbone declares them.

    Raises X2LError naming the backbones that declare any.
    """
    from x2l import registry
    from x2l.errors import unknown

    names = registry.names("backbone")
    sizes = registry.outline("backbone", name).sizes if name in names else None
    if sizes is None:
        known = [each for each in names if registry.outline("backbone", each).sizes is not None]
        raise unknown(f"backbone {name!r} has no known size", name, known)
    return sizes


def _text(sheet: Sheet, with_paper: bool) -> str:
    full_bytes = sheet.visual_tokens * sheet.bytes_per_token
    lines = [
        click.style(f"{sheet.model}, {sheet.num_frames} frames in {sheet.num_chunks} chunks", bold=True),
        _line("uncompressed KVs", sheet.visual_tokens, full_bytes),
        *(
            _line(f"KVs at {ratio}x", tokens, tokens * sheet.bytes_per_token)
            for ratio, tokens in sheet.level_tokens.items()
        ),
        _line("hybrid cache of a question", sheet.hybrid_tokens, sheet.hybrid_tokens * sheet.bytes_per_token)
        + f"  ({sheet.cache_reduction:.1%} gone)",
        f"{'index in host memory':28}{'':>12}{_bytes(sheet.kv_bytes_stored):>12}",
        f"{'peak on the device':28}{'':>12}{_bytes(sheet.peak_bytes):>12}  "
        f"(weights {_bytes(sheet.weight_bytes)})",
        "",
        f"{'image tower':28}{_flops(sheet.tower_flops):>24}",
        f"{'pre-fill, every pass':28}{_flops(sheet.prefill_flops):>24}  "
        f"({sheet.prefill_flops / sheet.plain_flops:.2f}x of a plain one)",
        f"{'question to first token':28}{_flops(sheet.answer_flops):>24}  "
        f"({sheet.answer_flops / sheet.plain_answer_flops:.2f}x of a plain one)",
        *(
            f"{f'Video-XL eq. 8 at {ratio}x' if ratio > 1 else 'Video-XL eq. 7, plain':28}{_flops(flops):>24}"
            for ratio, flops in sheet.paper_flops.items()
            if with_paper or ratio == 1
        ),
    ]
    return "\n".join(lines)


def _line(name: str, tokens: int, num_bytes: int) -> str:
    return f"{name:28}{tokens:>12,}{_bytes(num_bytes):>12}"


def _bytes(number: int) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e8 else f"{number / 1e6:.2f} MB"


def _flops(number: int) -> str:
    return f"{number / 1e12:,.1f} TFLOP" if number >= 1e11 else f"{number / 1e9:,.2f} GFLOP"
