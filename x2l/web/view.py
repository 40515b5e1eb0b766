"""What changes in the page, and what is seen of a job while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from x2l.types import ChunkKV
from x2l.video import Footage
from x2l.web import panels
from x2l.web.shown import Shown


@dataclass(frozen=True)
class View:
    """Parts of the page that change; None: one stays.

    player, state: HTML of the video, and of how far it is read. message: HTML beside the question.
    results: HTML of the answer of each setting. turns: question and answer, of the whole conversation.
    """

    player: str | None = None
    state: str | None = None
    message: str | None = None
    results: Sequence[str] | None = None
    turns: Sequence[tuple[str, str]] | None = None


def reading(video: Footage, doing: str = "Reading") -> Callable[[ChunkKV], View]:
    """Shows each chunk that is read behind those before it."""
    chunks: list[ChunkKV] = []

    def view(chunk: ChunkKV) -> View:
        chunks.append(chunk)
        return View(state=panels.progress(chunks, video, doing))

    return view


class Writing:
    """Shows an answer while it is written, and before that the chunks that are read for it.

    turns, text: the conversation and the question. names: of all settings. answers: of those before this one.
    """

    def __init__(
        self,
        video: Footage,
        turns: Sequence[tuple[str, str]],
        text: str,
        names: Sequence[str],
        answers: Sequence[Shown],
    ):
        self._turns, self._text, self._names = turns, text, names
        self._done = [panels.result(each) for each in answers]
        self._reading = reading(video)
        self._written = ""

    def __call__(self, told: ChunkKV | str) -> View:
        if isinstance(told, ChunkKV):
            return self._reading(told)
        self._written += told
        return self.view()

    def view(self) -> View:
        """The results so far; the first answer is that of the conversation."""
        number = len(self._done)
        waiting = [
            panels.waiting(name, self._written if i == number else "")
            for i, name in enumerate(self._names)
            if i >= number
        ]
        turns = [*self._turns, (self._text, "" if number else self._written)]
        return View(message="", results=[*self._done, *waiting], turns=None if number else turns)
