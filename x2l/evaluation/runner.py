"""Asks every question under every row, resuming exactly where an earlier run stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from x2l.errors import X2LError
from x2l.evaluation import provenance
from x2l.evaluation.asked import asked
from x2l.evaluation.hashes import asked_hash, questions_hash
from x2l.evaluation.recipe import Evaluation, Size
from x2l.evaluation.results import RUN, Line, Results
from x2l.evaluation.rows import Row, make_rows
from x2l.evaluation.shared_video import SharedVideo
from x2l.evaluation.summary import summarise
from x2l.interfaces import Data
from x2l.items import Item
from x2l.oracles.annotated import Annotated
from x2l.scoring import options_of
from x2l.storage.files import make_folder, read_json, write_json
from x2l.types import Answer, Question, VideoIndex


def run(
    recipe_path: str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    progress: bool = True,
    size: Size = "full",
    placed: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Run a recipe into the folder `out` and return its summary (see x2l.evaluation.summary).

    placed: device and dtype of every row's backbone.

    Writes run.json (recipe, hashes, one entry per session), results.jsonl (appended answer by answer),
    summary.json, table.md and figures. Started again, it goes on where it stopped.
    Raises X2LError for a wrong recipe, and if `out` holds another recipe, other questions or other weights.
    """
    evaluation, out = Evaluation.load(recipe_path, overrides, size, placed), Path(out)
    groups = make_rows(evaluation.rows)
    make_folder(out)
    # A changed recipe is refused before its data is written.
    _check_same(out, {"recipe_hash": evaluation.hash()})
    items = asked(evaluation.data, evaluation.data.open(out, progress), evaluation.show_options)
    with Results(out) as results:
        keys = _keys(groups, items)
        _note_session(out, evaluation, groups, items, len(keys), is_new=not results.done.issuperset(keys))
        _answer_all(groups, evaluation, items, results, len(keys), progress)
    return summarise(out)


def _keys(groups: list[list[Row]], items: list[Item]) -> list[tuple[str, str, str]]:
    """Keys of everything there is to answer."""
    rows = [row for group in groups for row in group]
    return [_key(row, item, question) for item in items for question in item.questions for row in rows]


def _key(row: Row, item: Item, question: Question) -> tuple[str, str, str]:
    """The key of an answer, as x2l.evaluation.results.key has it."""
    return row.name, item.name, question.id


def _answer_all(
    groups, evaluation: Evaluation, items: list[Item], results: Results, total: int, progress: bool
) -> None:
    with tqdm(
        total=total, initial=len(results.done), desc="eval", unit="answer", delay=1, disable=not progress
    ) as bar:
        for item in items:
            video = SharedVideo(item, groups)
            for group in groups:
                for line in _answers(group, evaluation, item, video, results):
                    results.append(line)
                    bar.update()


def _answers(
    group: list[Row], evaluation: Evaluation, item: Item, video: SharedVideo, results: Results
) -> Iterator[Line]:
    """Answers that a group of rows still owes about a video; it is indexed only if there are any."""
    if all(_key(row, item, question) in results.done for question in item.questions for row in group):
        return
    shared = video.index(group)
    todo = [(q, row) for q in video.asked(group) for row in group if _key(row, item, q) not in results.done]
    for question, row in todo:
        try:
            answer = row.pipeline.ask(shared, question, **asdict(evaluation.generation))
        except X2LError as error:
            raise X2LError(f"rows.{row.name}.{error}") from error
        yield _line(row, evaluation.data, item.name, question, answer, shared)


def _line(row: Row, data: Data, video: str, question: Question, answer: Answer, index: VideoIndex) -> Line:
    spans = Annotated().score(question, index, row.pipeline.backbone)
    return {
        "row": row.name,
        "video": video,
        "question": question.id,
        "kind": data.kind(question),
        "group": question.group,
        "tries_at": question.tries_at,
        "text": question.text,
        "num_options": len(options_of(question)),
        "gold": question.answer,
        "prediction": answer.text,
        "right": None if question.answer is None else data.is_right(answer.text, question),
        "plan": list(answer.plan.ratios),
        "scores": answer.plan.scores and [float(f"{score:.6g}") for score in answer.plan.scores],
        "detailed_chunks": [span.chunk for span in answer.evidence],
        "gold_chunks": [] if spans is None else spans.nonzero().flatten().tolist(),
        "kv_tokens": answer.kv_tokens,
        "kv_tokens_full": answer.kv_tokens_full,
        "cache_reduction": answer.cache_reduction,
        "seconds": {name: round(seconds, 6) for name, seconds in answer.seconds.items()},
    }


def _note_session(
    out: Path,
    evaluation: Evaluation,
    groups: list[list[Row]],
    items: list[Item],
    num_answers: int,
    is_new: bool,
) -> None:
    """Write run.json. A session that answers nothing is not noted: it would date answers of earlier ones."""
    pipelines = {row.name: row.pipeline for group in groups for row in group}
    backbones = [pipeline.backbone for pipeline in pipelines.values()]
    same = {
        "recipe_hash": evaluation.hash(),
        "questions_hash": questions_hash(items),
        "backbones": {name: pipeline.backbone.identity for name, pipeline in pipelines.items()},
        "oracles": {name: pipeline.oracle.identity for name, pipeline in pipelines.items()},
    }
    for slot in ("compressor", "selector"):
        identities = {name: getattr(pipeline, slot).identity for name, pipeline in pipelines.items()}
        if any(identities.values()):
            same[f"{slot}s"] = identities
    sessions = _check_same(out, same).get("sessions", [])
    if is_new:
        sessions.append(provenance.session([backbone.device for backbone in backbones]))
    run = {**same, "asked_hash": asked_hash(item.questions for item in items), "recipe": evaluation.mapping}
    run |= {"num_answers": num_answers, "sessions": sessions}
    write_json(out / RUN, run)


def _check_same(out: Path, same: dict[str, Any]) -> dict[str, Any]:
    """Contents of run.json ({} in a new folder); raises X2LError if it is about something else."""
    if not (out / RUN).is_file():
        return {}
    there = read_json(out / RUN)
    for name, value in same.items():
        if there.get(name) != value:
            raise X2LError(
                f"{out}: holds results of another {name}, expected the same; choose another folder"
            )
    return there
