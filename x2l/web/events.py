"""The studio's events with Gradio's visitors, inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import escape

from x2l.web.controls import NUM
from x2l.web.offered import Offered
from x2l.web.settings import Settings
from x2l.web.studio import Studio
from x2l.web.view import View


@dataclass(frozen=True)
class Events:
    """Each yields or returns values of player, state, message, two results and the conversation."""

    studio: Studio
    offered: Offered

    def open(self, request: gr.Request, *setting: Any) -> Iterator[list]:
        """The offered video, read with a setting."""
        opened = self.studio.open(request.session_hash, self.offered.path, Settings(*setting))
        yield from map(_values, opened)

    def upload(self, request: gr.Request, sent: str, *setting: Any) -> Iterator[list]:
        """The file that was sent."""
        path = self.studio.uploads.claim(Path(sent))
        yield from map(_values, self.studio.open(request.session_hash, path, Settings(*setting)))

    def ask(
        self, request: gr.Request, text: str, follows: bool, compares: bool, times: bool, *settings: Any
    ) -> Iterator[list]:
        """A question, with the first setting or with both; the last value is of the button, which waits."""
        chosen = [Settings(*settings[:NUM]), Settings(*settings[NUM:])][: 1 + compares]
        yield [*_values(View()), gr.update(interactive=False)]
        for view in self.studio.ask(request.session_hash, text, chosen, follows, times):
            yield [*_values(view), gr.skip()]

    def forget(self, request: gr.Request) -> list:
        """A new conversation."""
        return _values(self.studio.forget(request.session_hash))

    def leave(self, request: gr.Request) -> None:
        self.studio.leave(request.session_hash)


def _values(view: View) -> list:
    changed = [gr.skip() if each is None else each for each in (view.player, view.state, view.message)]
    return [*changed, *_results(view.results), gr.skip() if view.turns is None else _messages(view.turns)]


def _results(results: Sequence[str] | None) -> list:
    if results is None:
        return [gr.skip(), gr.skip()]
    first, *others = results
    return [first, gr.update(value="".join(others), visible=bool(others))]


def _messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """The conversation as Gradio spells it, which takes text for HTML; an answer not begun is left out."""
    said = [pair for turn in turns for pair in zip(("user", "assistant"), turn, strict=True)]
    return [{"role": role, "content": str(escape(content))} for role, content in said if content]
