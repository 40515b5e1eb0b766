"""Asks every question under every row, resuming exactly where an earlier run stopped."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from x2l.broken import passed_over
from x2l.errors import X2LError
from x2l.evaluation.asked import asked
from x2l.evaluation.forecast import forecast
from x2l.evaluation.hashes import question_hashes
from x2l.evaluation.processes import Processes, joined
from x2l.evaluation.recipe import Evaluation, Size
from x2l.evaluation.results import Line, Results, merge
from x2l.evaluation.rows import Row, make_rows
from x2l.evaluation.session import Session, check_same
from x2l.evaluation.shared_video import BrokenVideoError, SharedVideo
from x2l.evaluation.summary import summarise
from x2l.interfaces import Data
from x2l.items import Item
from x2l.oracles.annotated import Annotated
from x2l.scoring import names_an_option, options_of
from x2l.storage.files import alone_in, make_folder
from x2l.storage.library import Indices
from x2l.types import Answer, Question, VideoIndex


def run(
    recipe_path: str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    progress: bool = True,
    size: Size = "full",
    placed: Mapping[str, str] = MappingProxyType({}),
    indices: Indices | None = None,
) -> dict[str, Any] | None:
    """Run a recipe into the folder `out` and return its summary (see x2l.evaluation.summary).

    placed: device and dtype of every row's backbone. indices: where those of earlier runs are, and these go.

    Writes run.json (recipe, hashes, one entry per session), results.jsonl (appended answer by answer),
    summary.json, table.md and figures. Started again, it goes on where it stopped, with questions and
    videos added or taken away, too. With `progress`, tells on stderr what it is about to do. Warns of broken
    videos that were passed over.
    Several processes (see x2l.evaluation.processes) share the videos; None for all but the first.
    Raises X2LError for a wrong recipe, if `out` holds another recipe or other weights, if another run is
    there, and for too many broken videos.
    """
    out = Path(out)
    with joined() as processes, ExitStack() as held:
        progress = progress and processes.is_first
        with processes.first_ahead():
            evaluation = Evaluation.load(recipe_path, overrides, size, placed)
            groups = make_rows(evaluation.rows)
            make_folder(out)
            if processes.is_first:
                held.enter_context(alone_in(out))
            # A changed recipe is refused before its data is written.
            check_same(out, {"recipe_hash": evaluation.hash()})
            items = asked(evaluation.data, evaluation.data.open(out, progress), evaluation.show_options)
            hashes, broken = _hashes(evaluation.data, items)
            results = held.enter_context(Results(out, processes.rank))
            session = Session(out, evaluation, groups, items, hashes, writes=processes.is_first)
            session.note_broken(broken)
        owed = [item for item in items if not results.done.issuperset(session.keys.get(item.name, ()))]
        if progress and owed:
            tqdm.write("\n".join(forecast(groups, items, processes.num)), file=sys.stderr)
        _answer_all(groups, evaluation, owed, session, results, progress, indices, processes)
        if not processes.is_first:
            return None
        merge(out, session.all_keys)
        if session.broken:
            warnings.warn(passed_over(session.broken.values()), stacklevel=2)
        return summarise(out)


def _hashes(data: Data, items: list[Item]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Hashes of the questions about each video, and why a video cannot be read."""
    hashes, broken = {}, {}
    for item in items:
        try:
            hashes[item.name] = question_hashes(item, data.kind)
        except (X2LError, OSError) as error:
            broken[item.name] = str(error)
    return hashes, broken


def _answer_all(
    groups: list[list[Row]],
    evaluation: Evaluation,
    owed: list[Item],
    session: Session,
    results: Results,
    progress: bool,
    indices: Indices | None,
    processes: Processes,
) -> None:
    """Answer what is owed about this process's share of the videos, and wait for the others."""
    total, broken = len(session.all_keys), dict[str, str]()
    done = len(results.done.intersection(session.all_keys))
    with tqdm(total=total, initial=done, desc="eval", unit="answer", delay=1, disable=not progress) as bar:

        def show(own_answers: int = 0) -> None:
            if answers := processes.count(own_answers):
                session.note_answer()
            bar.update(done + answers - bar.n)

        for item in processes.share(owed):
            try:
                video, hashes = SharedVideo(item, groups, indices=indices), session.hashes[item.name]
                for line in _answers(groups, evaluation, item, video, hashes, results.done):
                    session.note_answer()
                    results.append(line)
                    show(1)
            except BrokenVideoError as error:
                broken[item.name] = str(error)
                session.note_broken(broken)
        session.note_broken(processes.gathered(broken, show))


def _answers(
    groups: list[list[Row]],
    evaluation: Evaluation,
    item: Item,
    video: SharedVideo,
    hashes: Mapping[str, str],
    done: Set[tuple[str, str]],
) -> Iterator[Line]:
    """Answers that rows still owe about a video; it is indexed only for groups that owe some.

    hashes: of its questions, by their ids. Raises BrokenVideoError if it cannot be read.
    """
    for group in groups:
        if done.issuperset((row.name, each) for each in hashes.values() for row in group):
            continue
        shared, questions = video.index(group), video.asked(group)
        for question in questions:
            for row in group:
                if (row.name, hashes[question.id]) not in done:
                    answer = _answer(row, evaluation, shared, question)
                    line = _line(row, evaluation.data, item.name, question, answer, shared)
                    yield line | {"asked": hashes[question.id]}


def _answer(row: Row, evaluation: Evaluation, index: VideoIndex, question: Question) -> Answer:
    try:
        if evaluation.answers == "letters" and question.options:
            return row.pipeline.choose(index, question)
        return row.pipeline.ask(index, question, **asdict(evaluation.generation))
    except X2LError as error:
        raise X2LError(f"rows.{row.name}.{error}") from error


def _line(row: Row, data: Data, video: str, question: Question, answer: Answer, index: VideoIndex) -> Line:
    chunks = index.chunks
    spans = Annotated().score(question, index, row.pipeline.backbone)
    right = None if question.answer is None else data.is_right(answer.text, question)
    num_options = len(options_of(question))
    return {
        "row": row.name,
        "video": video,
        "question": question.id,
        "kind": data.kind(question),
        "group": question.group,
        "tries_at": question.tries_at,
        "labels": list(question.labels),
        "text": question.text,
        "num_options": num_options,
        "gold": question.answer,
        "prediction": answer.text,
        "right": right,
        "is_clear": bool(right or num_options == 0 or names_an_option(answer.text, question)),
        "plan": list(answer.plan.ratios),
        "scores": answer.plan.scores and [float(f"{score:.6g}") for score in answer.plan.scores],
        "bounds_s": [round(time_s, 3) for time_s in (*(c.start_s for c in chunks), chunks[-1].end_s)],
        "detailed_chunks": [span.chunk for span in answer.evidence],
        "gold_chunks": [] if spans is None else spans.nonzero().flatten().tolist(),
        "kv_tokens": answer.kv_tokens,
        "kv_tokens_full": answer.kv_tokens_full,
        "cache_reduction": answer.cache_reduction,
        "index_bytes": index.num_bytes,
        "seconds": {name: round(seconds, 6) for name, seconds in answer.seconds.items()},
    }
