"""`x2l ask`: one question or many, about a video file or an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from x2l.cli.options import Options, shared_options

if TYPE_CHECKING:
    from x2l.pipeline import Pipeline
    from x2l.types import VideoIndex


@click.command(short_help="Ask about a video file or an index.")
@click.argument("source")
@click.argument("question", required=False)
@click.option(
    "--questions", "file", metavar="FILE", help="A JSON list of questions, with or without answers."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Longest answer.")
@shared_options
def ask(
    source: str,
    question: str | None,
    file: str | None,
    as_json: bool,
    max_new_tokens: int | None,
    options: Options,
) -> None:
    """Answer QUESTION about SOURCE, a video file or the directory of an index.

    Prints the answer, the chunks that were re-loaded in detail, what the KV cache holds and where the
    seconds went (decode, embed and prefill of an index: those of its making).

    FILE of --questions is a JSON list; each item is a string or an object {question, id, answer, options,
    gold_spans_s, group}, of which only the question is needed. Answers are then counted as right or wrong.
    """
    if (question is None) == (file is None):
        raise click.UsageError("expected either QUESTION or --questions FILE")
    if question is not None and not question.strip():
        raise click.UsageError("QUESTION is empty")
    from tqdm import tqdm

    from x2l.cli import report
    from x2l.cli.questions import load
    from x2l.types import Question

    asked = load(file) if file else [Question(question)]
    pipeline, index = _open(source, options)
    generation = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    bar = tqdm(asked, "ask", unit="question", delay=1, disable=options.quiet)
    answers = [pipeline.ask(index, each, **generation) for each in bar]
    if as_json and file:
        text = json.dumps(report.answers_data(pipeline, index, asked, answers), indent=1)
    elif as_json:
        text = json.dumps(report.answer_data(pipeline, index, answers[0]), indent=1)
    elif options.quiet:
        text = "\n".join(answer.text for answer in answers)
    elif file:
        text = report.answers_text(asked, answers)
    else:
        text = report.answer_text(index, answers[0])
    click.echo(text)


def _open(source: str, options: Options) -> tuple[Pipeline, VideoIndex]:
    from x2l import store
    from x2l.cli import setup

    progress = not options.quiet
    if Path(source).is_dir():
        index = store.load(source)
        return setup.make_pipeline(setup.make_recipe_for(index, source, options), progress), index
    recipe = setup.make_recipe(options)
    video = setup.open_with(recipe, source, options)
    pipeline = setup.make_pipeline(recipe, progress)
    return pipeline, pipeline.index(video, progress)
