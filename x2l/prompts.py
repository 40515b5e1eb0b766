"""How a question is put to a model, and how its answer begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_OPTIONS = "\n{options}"


@dataclass(frozen=True)
class Prompt:
    """The user's turn behind the video, and what the model's turn begins with.

    text: with {question}, {options} (a line each) and {subtitles}. option: with {letter} and {text}.
    answer: what the model goes on from, such as "Best Option: (". subtitles: those of the video.
    """

    text: str = "{question}" + _OPTIONS
    option: str = "({letter}) {text}"
    answer: str = ""
    subtitles: str = ""

    def of(self, question: str, options: Sequence[str]) -> str:
        """The user's turn; without options, no line stands for them."""
        text = self.text if options else self.text.replace(_OPTIONS, "")
        lines = "\n".join(self.option.format(letter=chr(ord("A") + i), text=o) for i, o in enumerate(options))
        return text.format(question=question, options=lines, subtitles=self.subtitles)

    @property
    def letter(self) -> str:
        """What stands between the beginning of an answer and a letter: "(" of "(A)", unless it has begun."""
        opening, _, _ = self.option.partition("{letter}")
        return "" if self.answer.endswith(opening) else opening


PLAIN = Prompt()
"""The question, its options as (A), (B), ... in a line each behind it."""
