"""`x2l ask`: one question or many, about a video file or an index."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import click

from x2l.cli.options import (
    Options,
    generation_options,
    shared_options,
    source_argument,
    verify_option,
    video_option,
)


@click.command(short_help="Ask about a video file or an index.")
@source_argument()
@click.argument("question", required=False)
@click.option(
    "--questions", "file", metavar="FILE", help="A JSON list of questions, with or without answers."
)
@video_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@generation_options
@click.option("--letters", is_flag=True, help="Choose among options by the logits of their letters.")
@click.option(
    "--stream/--no-stream", default=None, help="Show the answer while it is written (terminals do)."
)
@verify_option
@shared_options
def ask(
    source: str,
    question: str | None,
    file: str | None,
    video: str | None,
    as_json: bool,
    generation: dict[str, Any],
    letters: bool,
    stream: bool | None,
    verify: bool,
    options: Options,
) -> None:
    """Answer QUESTION about SOURCE: a video file, a folder of pictures, an index, or a library's --video.

    Prints the answer, the chunks that were re-loaded in detail, what the KV cache holds and where the
    seconds went (decode, embed and prefill of an index: those of its making).

    FILE of --questions is a JSON list of texts or of records {question, options, gt, ...}, which `x2l eval`
    reads too (docs/evaluation.md). Those about other videos are left out; answers are counted as right or
    wrong where a question has its gt.
    """
    if (question is None) == (file is None):
        raise click.UsageError("expected either QUESTION or --questions FILE")
    if question is not None and not question.strip():
        raise click.UsageError("QUESTION is empty")
    if letters and generation:
        raise click.UsageError("--letters excludes --max-new-tokens, --temperature, --stop and --decode")
    from tqdm import tqdm

    from x2l.cli import setup, texts
    from x2l.cli.questions import questions_about
    from x2l.types import Question

    asked = questions_about(source, file, video) if file else [Question(question)]
    pipeline, index = setup.open_source(source, options, verify, video)
    is_shown = sys.stdout.isatty() if stream is None else stream
    if question is not None and is_shown and not (as_json or letters):
        shown = pipeline.ask(index, asked[0], on_text=partial(click.echo, nl=False), **generation)
        click.echo("" if options.quiet else f"\n{texts.cost_text(index, shown)}")
        return
    if letters:
        bar = tqdm(asked, "ask", unit="question", delay=1, disable=options.quiet)
        answers = [pipeline.choose(index, each) for each in bar]
    else:
        answers = pipeline.ask_many(index, asked, progress=not options.quiet, **generation)
    if as_json and file:
        text = json.dumps(texts.answers_data(pipeline, index, asked, answers), indent=1)
    elif as_json:
        text = json.dumps(texts.answer_data(pipeline, index, answers[0]), indent=1)
    elif options.quiet:
        text = "\n".join(answer.text for answer in answers)
    elif file:
        text = texts.answers_text(asked, answers)
    else:
        text = texts.answer_text(index, answers[0])
    click.echo(text)
