"""What is asked: questions as the model sees them, checked before any video is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from x2l.errors import X2LError
from x2l.interfaces import Data
from x2l.items import Item
from x2l.scoring import plain
from x2l.types import Question


def asked(data: Data, items: Sequence[Item], show_options: bool) -> list[Item]:
    """The items with their questions as they are asked, with options or without.

    Raises X2LError if there are none, names or ids are not different, because answers are filed under them,
    or a right answer is none of the options, unless the data has a metric of its own.
    """
    if not items:
        raise X2LError("data: holds no video, expected at least one")
    _check_names(items)
    is_plain = type(data).is_right is Data.is_right
    return [
        replace(item, questions=tuple(_shown(item, q, is_plain, show_options) for q in item.questions))
        for item in items
    ]


def _shown(item: Item, question: Question, is_plain: bool, show_options: bool) -> Question:
    try:
        question = plain(question) if is_plain else question
    except X2LError as error:
        raise X2LError(f"data: {item.name}: {error}") from error
    return question if show_options else replace(question, options=())


def _check_names(items: Sequence[Item]) -> None:
    videos = Counter(item.name for item in items)
    for name, times in videos.items():
        if times > 1:
            raise X2LError(f"data: {times} videos are called {name}, expected different names")
    ids = Counter((item.name, question.id) for item in items for question in item.questions)
    for (name, question), times in ids.items():
        if times > 1:
            raise X2LError(f"data: {times} questions about {name} have the id {question}, expected one")
