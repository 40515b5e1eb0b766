"""What `ask` and `index` print: text for people, plain data for `--json`."""

from __future__ import annotations

import math
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click
import torch
import transformers

from x2l import __version__, registry
from x2l.drawing.words import size
from x2l.pipeline import Pipeline
from x2l.scoring import is_right
from x2l.types import Answer, Question, VideoIndex

SECONDS = ("chunk", "decode", "embed", "prefill", "score", "assemble", "first_token", "total")


def answer_data(pipeline: Pipeline, index: VideoIndex, answer: Answer) -> dict[str, Any]:
    """One answer as JSON-able data. `total` also counts what the named seconds leave out."""
    return {
        "answer": answer.text,
        "plan": list(answer.plan.ratios),
        "kv_tokens_per_chunk": list(answer.kv_tokens_per_chunk),
        "scores": _finite(answer.plan.scores),
        **({"option_scores": list(answer.option_scores)} if answer.option_scores else {}),
        **({} if answer.seed is None else {"seed": answer.seed}),
        "chunks": [
            {"start_s": chunk.start_s, "end_s": chunk.end_s, "num_frames": chunk.num_frames}
            for chunk in index.chunks
        ],
        "kv_tokens": answer.kv_tokens,
        "kv_bytes": answer.kv_bytes,
        "kv_tokens_full": answer.kv_tokens_full,
        "cache_reduction": answer.cache_reduction,
        "seconds": {name: answer.seconds.get(name, 0.0) for name in SECONDS},
        **{slot: registry.describe(getattr(pipeline, slot)) for slot in registry.PARTS},
        "proportional": asdict(pipeline.proportional),
        "versions": {
            "x2l": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }


def answers_data(
    pipeline: Pipeline, index: VideoIndex, asked: Sequence[Question], answers: Sequence[Answer]
) -> dict[str, Any]:
    """Many answers, and the share that is right of those whose answer is known (None: none is)."""
    items = [
        answer_data(pipeline, index, answer)
        | {"id": question.id, "question": question.text, "expected": question.answer}
        for question, answer in zip(asked, answers, strict=True)
    ]
    verdicts = _verdicts(asked, answers)
    return {"answers": items, "accuracy": sum(verdicts) / len(verdicts) if verdicts else None}


def answer_text(index: VideoIndex, answer: Answer) -> str:
    """The answer, its evidence, its cost."""
    return f"{click.style(answer.text, bold=True)}\n{cost_text(index, answer)}"


def cost_text(index: VideoIndex, answer: Answer) -> str:
    """The evidence of an answer and its cost."""
    seed = [] if answer.seed is None else [f"seed      {answer.seed}"]
    return "\n".join(["", *_evidence(index, answer), _cache(answer), *_seconds(index, answer), *seed])


def answers_text(asked: Sequence[Question], answers: Sequence[Answer]) -> str:
    """A line for each question, then how many are right, of all and of each group."""
    lines = [_verdict_line(question, answer) for question, answer in zip(asked, answers, strict=True)]
    if verdicts := _verdicts(asked, answers):
        lines += ["", click.style(_share_right(verdicts), bold=True), *_groups(asked, answers)]
        unscored = len(asked) - len(verdicts)
        lines += [f"{unscored} not scored: without a right answer"] if unscored else []
    mean = sum(answer.cache_reduction for answer in answers) / len(answers)
    lines += ["", f"KV cache  reduced by {100 * mean:.1f} % on average"]
    lines += [f"seed      {answers[0].seed}"] if answers[0].seed is not None else []
    return "\n".join(lines)


def index_text(index: VideoIndex, directory: str) -> str:
    frames = sum(chunk.num_frames for chunk in index.chunks)
    levels = ", ".join(f"{ratio}x" for ratio in index.ratios)
    made = f"{len(index.chunks)} chunks of {frames} frames at {levels}, {size(index.num_bytes)}"
    return f"{directory}  {made}\n{_spent('seconds', index.spec.seconds)}"


def _evidence(index: VideoIndex, answer: Answer) -> list[str]:
    plan, num_chunks = answer.plan.ratios, len(index.chunks)
    if not answer.evidence:
        return [f"chunks    all {num_chunks} alike at {plan[0]}x"]
    ratio = plan[answer.evidence[0].chunk]
    head = f"chunks    {len(answer.evidence)} of {num_chunks} re-loaded as L-KVs ({ratio}x)"
    return [head, *map(_evidence_line, answer.evidence)]


def _evidence_line(span) -> str:
    score = "-" if span.score is None else f"{span.score:.4g}"
    return f"          #{span.chunk:<4} {span.start_s:8.1f} - {span.end_s:.1f} s   score {score}"


def _cache(answer: Answer) -> str:
    kept = f"{answer.kv_tokens:,} tokens, {size(answer.kv_bytes)}"
    full = f"{answer.kv_tokens_full:,} tokens, {size(answer.kv_bytes_full)}"
    return f"KV cache  {kept}; uncompressed {full}; reduced by {100 * answer.cache_reduction:.1f} %"


def _seconds(index: VideoIndex, answer: Answer) -> list[str]:
    """Those of the index, spent when it was made, are not the question's."""
    made = index.spec.seconds
    asked = {name: spent for name, spent in answer.seconds.items() if name not in made}
    asked["total"] -= sum(made.values())
    return [_spent("index s", made), _spent("answer s", asked)]


def _spent(what: str, seconds: Mapping[str, float]) -> str:
    named = (name for name in SECONDS if name in seconds)
    return f"{what:9} " + ", ".join(f"{name.replace('_', ' ')} {seconds[name]:.3f}" for name in named)


def _verdict_line(question: Question, answer: Answer) -> str:
    right = None if question.answer is None else is_right(answer.text, question)
    verdict = {None: "", True: "right", False: "wrong"}[right]
    expected = f" (expected {question.answer})" if right is False else ""
    said = click.style(" ".join(answer.text.split()), bold=True)
    return f"{verdict:6} {question.id:10} {question.text}  {said}{expected}".lstrip()


def _verdicts(asked: Iterable[Question], answers: Iterable[Answer]) -> list[bool]:
    pairs = zip(asked, answers, strict=True)
    return [is_right(answer.text, question) for question, answer in pairs if question.answer is not None]


def _groups(asked: Iterable[Question], answers: Iterable[Answer]) -> list[str]:
    groups: dict[str, list] = defaultdict(list)
    for question, answer in zip(asked, answers, strict=True):
        if question.group:
            groups[question.group].append((question, answer))
    judged = {name: _verdicts(*zip(*pairs, strict=True)) for name, pairs in sorted(groups.items())}
    return [f"  {name:10} {_share_right(verdicts)}" for name, verdicts in judged.items() if verdicts]


def _share_right(verdicts: Sequence[bool]) -> str:
    return f"{sum(verdicts)} of {len(verdicts)} right"


def _finite(scores: Sequence[float] | None) -> list[float | None] | None:
    """JSON has no infinity."""
    return None if scores is None else [score if math.isfinite(score) else None for score in scores]
