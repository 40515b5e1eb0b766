"""`x2l chat`: a conversation about one video."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from x2l.cli.options import (
    Options,
    generation_options,
    shared_options,
    source_argument,
    verify_option,
    video_option,
)

if TYPE_CHECKING:
    from x2l.types import Answer


@click.command(short_help="A conversation about a video file or an index.")
@source_argument()
@video_option
@generation_options
@verify_option
@shared_options
def chat(source: str, video: str | None, generation: dict[str, Any], verify: bool, options: Options) -> None:
    """Ask about SOURCE (a video file, pictures, an index, a library's --video), one line after the other.

    Questions come from the terminal or from standard input. Every question knows the turns before it; its
    oracle sees the question alone. /new forgets the turns, an empty line or the end of the input ends.
    """
    from x2l.cli import setup
    from x2l.types import Question

    pipeline, index = setup.open_source(source, options, verify, video)
    history: tuple[tuple[str, str], ...] = ()
    for text in _lines():
        if text == "/new":
            history = ()
            continue
        answer = pipeline.ask(index, Question(text, history=history), on_text=_write, **generation)
        click.echo(f"\n{_looked_at(answer)}")
        history = (*history, (text, answer.text))


def _lines():
    """Lines as they are typed, until nothing is."""
    while True:
        if sys.stdin.isatty():
            click.echo("> ", nl=False)
        if not (text := sys.stdin.readline().strip()):
            return
        yield text


def _write(text: str) -> None:
    click.echo(text, nl=False)


def _looked_at(answer: Answer) -> str:
    spans = ", ".join(f"{span.start_s:.0f}-{span.end_s:.0f} s" for span in answer.evidence)
    return click.style(
        f"  [{spans or 'one level'}; {answer.cache_reduction:.0%} of the cache gone]", dim=True
    )
