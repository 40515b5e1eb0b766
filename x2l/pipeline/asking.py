"""Ask: questions are checked and scored, answers are written down with what they cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from x2l import registry
from x2l.cache import FilledCache
from x2l.clock import AtFirstToken, Clock
from x2l.interfaces import Backbone, Part, Selector
from x2l.storage import store
from x2l.types import DROPPED, Answer, Plan, Question, Span, VideoIndex, X2LError

Asked = Question | str
OnText = Callable[[str], Any] | None
"""Given an answer piece by piece while it is written."""


def checked(question: Asked, index: VideoIndex, backbone: Backbone) -> Question:
    """The question; warns of words that the backbone does not know.

    Raises X2LError if it is empty, or the index was made by another model.
    """
    question = Question(question) if isinstance(question, str) else question
    if not question.text.strip():
        raise X2LError("question: is empty")
    store.check(index, backbone)
    texts = [question.text, *question.options, *(text for turn in question.history for text in turn)]
    if unknown := dict.fromkeys(backbone.unknown_words(" ".join(texts))):
        words = f"words that the backbone does not know: {', '.join(unknown)}"
        # 4: the caller of ask() or ask_many(), which no_grad wraps.
        warnings.warn(f"{words}; it knows {backbone.vocabulary}", stacklevel=4)
    return question


def warn_if_empty(plan: Plan, selector: Selector) -> None:
    """Warn of a plan that keeps no chunk."""
    if not any(plan.ratios):
        name = registry.name_of(type(selector))
        # 4: the caller of Pipeline.plan, which no_grad wraps.
        warnings.warn(f"selector {name}: keeps no chunk, the answer is a guess", stacklevel=4)


def alike(plans: Sequence[Plan], parts: Sequence[Part]) -> list[list[int]]:
    """Numbers of the plans that make the same cache, together: none do where a part refines it."""
    if any(part.refines for part in parts):
        return [[i] for i in range(len(plans))]
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, plan in enumerate(plans):
        groups.setdefault(plan.ratios, []).append(i)
    return list(groups.values())


def repeatable(generation: dict[str, Any]) -> dict[str, Any]:
    """Options of generate(), with a seed where answers are sampled: one that is drawn, unless it is given."""
    options = {name: value for name, value in generation.items() if name != "seed"}
    if not generation.get("do_sample"):
        return options
    seed = generation.get("seed")
    return options | {"seed": int(torch.randint(2**31, ())) if seed is None else seed}


def write(
    backbone: Backbone,
    question: Question,
    cache: FilledCache,
    clock: Clock,
    on_text: OnText,
    generation: dict[str, Any],
) -> str:
    """The answer, decoded behind a cache; on_text is given it piece by piece. Warns if it is empty.

    generation: as `repeatable` leaves it.
    """
    generation = dict(generation)
    seed = generation.pop("seed", None)
    with clock.span("first_token"):
        inner = generation.pop("streamer", None) or (on_text and backbone.streamer(on_text))
        ids, streamer = backbone.encode_question(question), AtFirstToken(clock, inner)
        backbone.warn_if_too_long(cache.get_seq_length() + len(ids))
        with _seeded(seed, backbone.device):
            text = backbone.generate(ids, cache, streamer=streamer, **generation)
    if on_text and inner is None:
        on_text(text)
    if not text.strip():
        # The same text for every question: it is told once.
        warnings.warn("an answer is empty: the model ends it before its first word", stacklevel=4)
    return text


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Random numbers from a seed; those drawn later are as if none had been."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def letters(question: Question, backbone: Backbone) -> Int[Tensor, " options"]:
    """First token of each option's letter. Raises X2LError without options, or if two are the same."""
    if not question.options:
        raise X2LError(f"question {question.id or question.text!r}: has no options to choose from")
    ids = [backbone.encode_text(letter)[:1] for letter in question.letters]
    unknown = backbone.unknown_words(" ".join(question.letters))
    if unknown or len({first.item() for first in ids if len(first)}) < len(ids):
        raise X2LError(f"{registry.name_of(type(backbone))}: cannot tell the letters of options apart")
    return torch.cat(ids)


def letter_scores(
    backbone: Backbone, question: Question, cache: FilledCache, letters: Int[Tensor, " options"]
) -> Float[Tensor, " options"]:
    """Log-probability of each letter where the prompt lets an answer have one, among all of them."""
    prompt = [backbone.encode_question(question)]
    if opening := question.prompt.letter:
        prompt.append(backbone.encode_text(opening))
    backbone.warn_if_too_long(cache.get_seq_length() + sum(map(len, prompt)))
    logits = backbone.logits(torch.cat(prompt), cache)[-1]
    return logits[letters].log_softmax(dim=-1)


def answered(
    index: VideoIndex,
    plan: Plan,
    cache: FilledCache,
    text: str,
    clock: Clock,
    generation: Mapping[str, Any] = MappingProxyType({}),
) -> Answer:
    """An answer with its evidence and its costs, which are those of the cache, and how it was sampled."""
    kept = cache.tokens_per_chunk
    bytes_per_token = index.spec.geometry.bytes_per_token
    seconds = {**index.spec.seconds, **clock.seconds}
    return Answer(
        text=text,
        plan=plan,
        evidence=evidence(index, plan),
        kv_tokens_per_chunk=kept,
        kv_bytes=sum(kept) * bytes_per_token,
        kv_tokens_full=index.num_visual_tokens,
        kv_bytes_full=index.num_visual_tokens * bytes_per_token,
        seconds={**seconds, "total": sum(seconds.values())},
        seed=generation.get("seed"),
    )


def evidence(index: VideoIndex, plan: Plan) -> tuple[Span, ...]:
    """The chunks that were re-loaded in more detail than the others, in temporal order."""
    if len(set(plan.ratios)) == 1:
        return ()
    detailed = min(ratio for ratio in plan.ratios if ratio != DROPPED)
    scores = plan.scores or [None] * len(plan.ratios)
    return tuple(
        Span(chunk.index, chunk.start_s, chunk.end_s, score)
        for chunk, ratio, score in zip(index.chunks, plan.ratios, scores, strict=True)
        if ratio == detailed
    )
