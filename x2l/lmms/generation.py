"""How a task wants its answers written: from lmms-eval's generation_kwargs to what `Pipeline.ask` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from x2l.errors import unknown

ALWAYS = ("max_new_tokens", "num_beams", "repetition_penalty")
SAMPLED = ("temperature", "top_p", "top_k", "seed")
"""Left out where an answer takes the best token: tasks give them there too."""
KNOWN = (*ALWAYS, *SAMPLED, "do_sample", "until")


def generation_from(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `Pipeline.ask`. A temperature samples, unless it is 0 or `do_sample` forbids it.

    Raises X2LError for a name that means nothing here.
    """
    for name in kwargs:
        if name not in KNOWN:
            raise unknown(f"generation_kwargs.{name}", name, KNOWN)
    given = {name: value for name, value in kwargs.items() if value is not None}
    until = given.get("until", ())
    stops = [stop for stop in ([until] if isinstance(until, str) else until) if stop]
    is_sampled = given.get("do_sample", "temperature" in given) and given.get("temperature", 1) > 0
    options = {name: given[name] for name in ALWAYS + SAMPLED * is_sampled if name in given}
    return options | ({"do_sample": True} if is_sampled else {}) | ({"stop_strings": stops} if stops else {})


def until(text: str, stops: Sequence[str]) -> str:
    """The text in front of the first of some others."""
    for stop in stops:
        text, _, _ = text.partition(stop)
    return text
