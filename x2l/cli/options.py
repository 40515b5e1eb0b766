"""Options that commands share: how an answer is written, which parts, which frames, on what device.

Those that name a part, a ratio, a length or a device are short for a `--set dotted.key=value` on the recipe.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

from x2l.config.paths import local_path
from x2l.decoding import DECODE
from x2l.errors import X2LError
from x2l.precision import FULL_NAMES


@dataclass(frozen=True)
class Options:
    """The shared options as they were given; None where one was not."""

    backbone: str | None
    compressor: str | None
    oracle: str | None
    selector: str | None
    ratios: tuple[int, ...] | None
    assignments: tuple[str, ...]
    recipe: str | None
    plugins: tuple[str, ...]
    device: str | None
    dtype: str | None
    fps: float | None
    num_frames: int | None
    max_frames: int | None
    picture_fps: float | None
    chunk_frames: str | None
    reader: str | None
    salvage: bool
    quiet: bool

    def __post_init__(self):
        by_rate = {"--fps": self.fps, "--max-frames": self.max_frames}
        for name, value in by_rate.items():
            if value is not None and self.num_frames is not None:
                raise click.UsageError(f"{name} and --num-frames exclude each other")

    def overrides(self) -> list[str]:
        """Options as overrides of a recipe; those of --set come last and win."""
        keys = {slot: getattr(self, slot) for slot in ("backbone", "compressor", "oracle", "selector")}
        keys |= {"backbone.device": self.device, "backbone.dtype": FULL_NAMES.get(self.dtype, self.dtype)}
        keys |= {"ratios": self.ratios}
        for name in ("fps", "num_frames", "max_frames", "picture_fps"):
            keys[f"sampling.{name}"] = getattr(self, name)
        given = [f"{key}={json.dumps(value)}" for key, value in keys.items() if value is not None]
        by_rate = self.fps is not None or self.max_frames is not None
        given += [f"chunk_frames={self.chunk_frames}"][: self.chunk_frames is not None]
        return [*["sampling.num_frames=null"][:by_rate], *given, *self.assignments]


def shared_options(command: Callable) -> Callable:
    """Decorator: adds the shared options to a command, which receives them as `options`."""

    @wraps(command)
    def with_options(**given: Any) -> Any:
        options = Options(**{field.name: given.pop(field.name) for field in fields(Options)})
        return command(options=options, **given)

    for add in reversed(_SHARED):
        with_options = add(with_options)
    return with_options


def generation_options(command: Callable) -> Callable:
    """Decorator: adds how answers are written, which the command receives as `generation`.

    By transformers' names; what was not given is left to the backbone.
    """

    @wraps(command)
    def with_generation(
        max_new_tokens: int | None,
        temperature: float | None,
        seed: int | None,
        stop: tuple[str, ...],
        decode: str | None,
        **given: Any,
    ) -> Any:
        sampling = {"do_sample": True, "temperature": temperature, "seed": seed} if temperature else {}
        others = {"max_new_tokens": max_new_tokens, "stop_strings": list(stop) or None, "decode": decode}
        options = {name: value for name, value in (sampling | others).items() if value is not None}
        return command(generation=options, **given)

    for add in reversed(_GENERATION):
        with_generation = add(with_generation)
    return with_generation


def plugin_option(command: Callable) -> Callable:
    """Decorator: adds the repeatable --plugin as `plugins`."""
    return click.option(
        "--plugin",
        "plugins",
        metavar="FILE|MODULE",
        multiple=True,
        help="Python that registers methods of your own; repeatable.",
    )(command)


def out_option(help: str) -> Callable:
    """Decorator: adds the required --out DIR as a Path."""
    return click.option(
        "--out",
        metavar="DIR",
        required=True,
        type=click.Path(file_okay=False),
        callback=lambda context, option, path: local_path(path),
        help=help,
    )


def source_argument(required: bool = True) -> Callable:
    """Decorator: adds what is asked about as `source`, which has to be there; torch is not loaded to see."""

    def existing(context: click.Context, argument: click.Parameter, source: str | None) -> str | None:
        try:
            if source is not None:
                os.lstat(local_path(source))
        except PermissionError as error:
            raise X2LError(f"{source}: cannot be read ({error.strerror})") from None
        except OSError:  # or a name that no file can have, such as a long question
            raise X2LError(f"{source}: no such file") from None
        return source

    return click.argument("source", required=required, callback=existing)


def file_option(help: str) -> Callable:
    """Decorator: adds --out FILE, or -o FILE, as `file`: a Path, or None where it was not given."""
    return click.option(
        "-o",
        "--out",
        "file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        callback=lambda context, option, path: path and local_path(path),
        help=help,
    )


def set_option(help: str) -> Callable:
    """Decorator: adds the repeatable --set KEY=VALUE as `assignments`."""
    return click.option("--set", "assignments", metavar="KEY=VALUE", multiple=True, help=help)


RUN = click.Path(exists=True, file_okay=False, path_type=Path)
"""The type of an argument that is a folder of results."""

verify_option = click.option(
    "--verify/--no-verify", default=True, help="Hold an index against its checksums; the default."
)
video_option = click.option("--video", metavar="NAME", help="The video of a library that is asked about.")
device_option = click.option("--device", metavar="DEVICE", help="cpu, cuda or cuda:N.")
dtype_option = click.option(
    "--dtype", type=click.Choice([*FULL_NAMES, *FULL_NAMES.values()]), help="Precision of the backbone."
)


def _parse_ratios(context: click.Context, option: click.Parameter, text: str | None) -> tuple | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"expected whole numbers such as 2,32, got {text!r}") from error


def _method(slot: str) -> Callable:
    return click.option(f"--{slot}", metavar="NAME", help=f"The {slot}; `x2l methods {slot}` lists them.")


_COUNT = click.IntRange(min=1)

_GENERATION = [
    click.option("--max-new-tokens", type=_COUNT, help="Longest answer."),
    click.option(
        "--temperature", type=click.FloatRange(min=0), help="Sample; 0, the default, takes the best."
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**63 - 1),
        help="Equal seeds sample equal answers; default: drawn, and reported with the answer.",
    ),
    click.option("--stop", metavar="TEXT", multiple=True, help="The answer ends behind it; repeatable."),
    click.option(
        "--decode",
        type=click.Choice(DECODE),
        help="graph: a GPU replays a captured step for every token; auto, the default, is eager.",
    ),
]

_SHARED = [
    _method("backbone"),
    _method("compressor"),
    _method("oracle"),
    _method("selector"),
    click.option("--ratios", metavar="N,N", callback=_parse_ratios, help="Compression levels, such as 2,32."),
    set_option("Any field of the recipe, such as selector.k=5; repeatable."),
    click.option("--recipe", metavar="FILE", help="A recipe (YAML) to start from."),
    plugin_option,
    device_option,
    dtype_option,
    click.option("--fps", type=float, help="Frames looked at per second of video."),
    click.option("--num-frames", type=_COUNT, help="This many frames, or all, spread over the video."),
    click.option("--max-frames", type=_COUNT, help="At most this many frames, however long the video."),
    click.option("--picture-fps", type=float, help="Pictures per second of a folder (default 1)."),
    click.option(
        "--chunk-frames",
        metavar="N|scenes",
        help="Frames per chunk; or scenes: cut where the picture changes.",
    ),
    click.option("--reader", metavar="NAME", help="auto (the default), decord or pyav."),
    click.option("--salvage", is_flag=True, help="Use what can be decoded of a damaged file."),
    click.option("--quiet", is_flag=True, help="No progress bars; the answer alone."),
]
