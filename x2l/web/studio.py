"""What visitors can do: each event yields what changes in the page, and refuses bad input in a line."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from x2l.errors import X2LError, out_of_memory
from x2l.interfaces import Backbone
from x2l.pipeline import Pipeline
from x2l.recipe import Recipe, build_pipeline
from x2l.types import ChunkKV, Question
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

    base: the recipe that settings start from. open_video: opens a path. generation: as of Pipeline.ask.
    """

    base: Recipe
    backbone: Backbone
    open_video: Callable[[str], Footage]
    uploads: Uploads
    generation: Mapping[str, Any] = field(default_factory=dict)
    worker: Worker = field(default_factory=Worker)

    def __post_init__(self) -> None:
        self._pipelines: Recent[Pipeline] = Recent(MOST_PIPELINES)
        self._sessions: Recent[Session] = Recent(MOST_SESSIONS, on_gone=self._remove_video)

    def open(self, visitor: str, path: Path, settings: Settings) -> Iterator[View]:
        """Open a video, in place of the one before, and read it chunk by chunk."""
        session = self._session(visitor)
        try:
            yield View(state=panels.opening(path))
            recipe = settings.recipe(self.base)
            (before, video), _ = yield from self._run(lambda tell: (session.path, session.open(path)))
            self._remove(before)
            yield View(panels.player(video), panels.progress([], video), "", [panels.NO_ANSWER], [])
            index, _ = yield from self._run(partial(session.index, recipe), reading(video))
            yield View(state=panels.indexed(index))
        except X2LError as refused:
            yield View(state=panels.error(X2LError(str(refused).replace(str(path), path.name))))
        finally:  # The visitor may have left in the meantime.
            if session.path != path or visitor not in self._sessions:
                self._remove(path)

    def ask(
        self, visitor: str, text: str, chosen: Sequence[Settings], follows: bool = False, times: bool = False
    ) -> Iterator[View]:
        """Answer with one setting, or with two; the first answer joins the conversation.

        follows: the question knows the turns before it. times: the uncompressed cache is asked, too, and
        how soon each answer begins is measured.
        """
        session = self._session(visitor)
        try:
            recipes = [settings.recipe(self.base) for settings in chosen]
            question, video = session.question(text, follows), session.opened()
        except X2LError as refused:
            yield View(message=panels.error(refused))
            return
        answers: list[Shown] = []
        try:
            yield from self._answer(session, video, question, recipes, answers)
            _require_open(session, video)
            session.turns = (*session.turns, (text, answers[0].answer.text))
            yield View(results=_results(answers), turns=session.turns)
            if times:
                yield from self._time(session, video, question, recipes, answers)
        except X2LError as refused:
            shown = answers if session.opened() is video else ()
            yield View(message=panels.error(refused), results=_results(shown), turns=session.turns)

    def forget(self, visitor: str) -> View:
        """Begin a new conversation."""
        self._session(visitor).turns = ()
        return View(message="", results=[panels.NO_ANSWER], turns=[])

    def leave(self, visitor: str) -> None:
        """The visitor is gone, and what was kept of the visit goes."""
        self._sessions.drop(visitor)

    def _answer(
        self,
        session: Session,
        video: Footage,
        question: Question,
        recipes: Sequence[Recipe],
        answers: list[Shown],
    ) -> Iterator[View]:
        names = ["A", "B"] if len(recipes) > 1 else [""]
        for name, recipe in zip(names, recipes, strict=True):
            writing = Writing(video, session.turns, question.text, names, answers)
            yield writing.view()

            def asked(tell: Tell, name: str = name, recipe: Recipe = recipe) -> Shown:
                _require_open(session, video)
                return show(name, video, *session.ask(question, recipe, tell, tell))

            shown, notes = yield from self._run(asked, writing)
            answers.append(replace(shown, notes=notes))
            yield View(state=panels.indexed(shown.index))

    def _time(
        self,
        session: Session,
        video: Footage,
        question: Question,
        recipes: Sequence[Recipe],
        answers: Sequence[Shown],
    ) -> Iterator[View]:
        whole = uncompressed(self.base)

        def timed(tell: Tell) -> tuple[str, list[float]]:
            _require_open(session, video)
            _, full = session.ask(question, whole, on_chunk=tell)
            return full.text, [session.first_token_s(question, recipe) for recipe in (whole, *recipes)]

        doing = reading(video, "Reading it uncompressed")
        (full, (full_s, *own_s)), _ = yield from self._run(timed, doing)
        timings = [Timing(seconds, full_s, full) for seconds in own_s]
        compared = [replace(each, timing=timing) for each, timing in zip(answers, timings, strict=True)]
        yield View(state=panels.indexed(answers[0].index), results=_results(compared))

    def _run(
        self, job: Callable[[Tell], Any], view_of: Callable[[ChunkKV | str], View] = lambda told: View()
    ) -> Generator[View, None, Any]:
        """As Worker.run, with a view of each thing that is told. Raises X2LError if memory runs out, too."""
        try:
            return (yield from mapped(self.worker.run(job), view_of))
        except (MemoryError, RuntimeError) as error:
            if refused := out_of_memory(error):
                raise refused from error
            raise

    def _session(self, visitor: str) -> Session:
        return self._sessions.get(visitor, self._new_session)

    def _new_session(self) -> Session:
        return Session(self._pipeline, self.open_video, self.generation)

    def _pipeline(self, recipe: Recipe) -> Pipeline:
        return self._pipelines.get(recipe.hash(), lambda: build_pipeline(recipe, self.backbone))

    def _remove_video(self, session: Session) -> None:
        self._remove(session.path)

    def _remove(self, path: Path | None) -> None:
        if path is not None:
            self.uploads.remove(path)


def _require_open(session: Session, video: Footage) -> None:
    """Raises X2LError if the visitor opened another video in the meantime."""
    if session.opened() is not video:
        raise X2LError("another video was opened before the answer, expected the question again")


def _results(answers: Sequence[Shown]) -> list[str]:
    return [panels.result(each) for each in answers] or [panels.NO_ANSWER]
