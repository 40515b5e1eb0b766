"""What visitors can do: each event yields what changes in the page, and refuses bad input in a line."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from x2l.errors import X2LError
from x2l.interfaces import Backbone
from x2l.pipeline import Pipeline
from x2l.recipe import Recipe, build_pipeline
from x2l.types import Answer, ChunkKV, Question, VideoIndex
from x2l.video import Footage
from x2l.web import panels
from x2l.web.recent import Recent
from x2l.web.session import Session
from x2l.web.settings import Settings, uncompressed
from x2l.web.shown import Shown, Timing, show
from x2l.web.uploads import Uploads
from x2l.web.view import View, Writing, reading
from x2l.web.worker import Tell, Worker, mapped

MOST_SESSIONS, MOST_PIPELINES = 8, 8


@dataclass
class Studio:
    """One model, which serves one visitor at a time, and a session for each of the last visitors.

    base: the recipe that settings start from. open_video: opens a path.
    """

    base: Recipe
    backbone: Backbone
    open_video: Callable[[str], Footage]
    uploads: Uploads
    worker: Worker = field(default_factory=Worker)

    def __post_init__(self) -> None:
        self._pipelines: Recent[Pipeline] = Recent(MOST_PIPELINES)
        self._sessions: Recent[Session] = Recent(MOST_SESSIONS, on_gone=self._remove_video)

    def open(self, visitor: str, path: Path, settings: Settings) -> Iterator[View]:
        """Open a video, in place of the one before, and read it chunk by chunk."""
        session = self._session(visitor)
        before = session.path
        try:
            video = session.open(path)
            self._remove(before)
            yield View(panels.player(video), panels.progress([], video), "", [panels.NO_ANSWER], [])
            recipe = settings.recipe(self.base)
            index, _ = yield from self._run(partial(session.index, recipe), reading(video))
            yield View(state=panels.indexed(index))
        except X2LError as refused:
            if session.path != path:
                self._remove(path)
            yield View(state=panels.error(X2LError(str(refused).replace(str(path), path.name))))

    def ask(
        self, visitor: str, text: str, chosen: Sequence[Settings], follows: bool = False, times: bool = False
    ) -> Iterator[View]:
        """Answer a question with one setting, or side by side with two; the first answer joins the conversation.

        follows: the question knows the turns before it. times: how soon answers begin is measured, beside that
        on the uncompressed cache.
        """
        session = self._session(visitor)
        try:
            recipes = [settings.recipe(self.base) for settings in chosen]
            question = session.question(text, follows)
        except X2LError as refused:
            yield View(message=panels.error(refused))
            return
        answers: list[Shown] = []
        try:
            yield from self._answer(session, question, recipes, answers)
            session.turns = (*session.turns, (text, answers[0].answer.text))
            yield View(results=_results(answers), turns=session.turns)
            if times:
                yield from self._time(session, question, recipes, answers)
        except X2LError as refused:
            yield View(message=panels.error(refused), results=_results(answers), turns=session.turns)

    def forget(self, visitor: str) -> View:
        """Begin a new conversation."""
        self._session(visitor).turns = ()
        return View(message="", results=[panels.NO_ANSWER], turns=[])

    def leave(self, visitor: str) -> None:
        """The visitor is gone, and what was kept of the visit goes."""
        self._sessions.drop(visitor)

    def _answer(
        self, session: Session, question: Question, recipes: Sequence[Recipe], answers: list[Shown]
    ) -> Iterator[View]:
        names = ["A", "B"] if len(recipes) > 1 else [""]
        for name, recipe in zip(names, recipes, strict=True):
            writing = Writing(session.video, session.turns, question.text, names, answers)
            yield writing.view()

            def asked(tell: Tell, recipe: Recipe = recipe) -> tuple[VideoIndex, Answer]:
                return session.ask(question, recipe, on_chunk=tell, on_text=tell)

            (index, answer), notes = yield from self._run(asked, writing)
            answers.append(show(name, session.video, index, answer, notes))
            yield View(state=panels.indexed(index))

    def _time(
        self, session: Session, question: Question, recipes: Sequence[Recipe], answers: Sequence[Shown]
    ) -> Iterator[View]:
        whole = uncompressed(self.base)

        def timed(tell: Tell) -> tuple[str, list[float]]:
            _, full = session.ask(question, whole, on_chunk=tell)
            return full.text, [session.first_token_s(question, recipe) for recipe in (whole, *recipes)]

        doing = reading(session.video, "Reading it uncompressed")
        (full, (full_s, *own_s)), _ = yield from self._run(timed, doing)
        timings = [Timing(seconds, full_s, full) for seconds in own_s]
        compared = [replace(each, timing=timing) for each, timing in zip(answers, timings, strict=True)]
        yield View(state=panels.indexed(answers[0].index), results=_results(compared))

    def _run(
        self, job: Callable[[Tell], Any], view_of: Callable[[ChunkKV | str], View]
    ) -> Generator[View, None, Any]:
        return mapped(self.worker.run(job), view_of)

    def _session(self, visitor: str) -> Session:
        return self._sessions.get(visitor, lambda: Session(self._pipeline, self.open_video))

    def _pipeline(self, recipe: Recipe) -> Pipeline:
        return self._pipelines.get(recipe.hash(), lambda: build_pipeline(recipe, self.backbone))

    def _remove_video(self, session: Session) -> None:
        self._remove(session.path)

    def _remove(self, path: Path | None) -> None:
        if path is not None:
            self.uploads.remove(path)


def _results(answers: Sequence[Shown]) -> list[str]:
    return [panels.result(each) for each in answers] or [panels.NO_ANSWER]
