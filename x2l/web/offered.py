"""The video that a page offers beside those that visitors upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from x2l.questions import read_questions

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Offered:
    """A video by the label of its button, and questions to begin with."""

    path: Path
    label: str
    questions: Sequence[str] = ()


def sample() -> Offered:
    """The needle video of the examples, with its first question of each kind."""
    asked = [question for _, question in read_questions(ASSETS / "questions.json")]
    first = {question.group: question.text for question in reversed(asked)}
    return Offered(ASSETS / "needles.mp4", "Sample video", list(reversed(first.values())))
