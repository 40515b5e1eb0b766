"""The questions of a file that are about one video."""

from __future__ import annotations

import warnings
from pathlib import PurePosixPath

from x2l.cli.setup import stored_index
from x2l.config.paths import local_path
from x2l.errors import X2LError
from x2l.questions import read_questions
from x2l.types import Question


def questions_about(source: str, file: str, video: str | None = None) -> list[Question]:
    """Questions about a video, or the index of one, by the name of its file; those that name no video, too.

    video: of a library. Warns of questions about other videos. Raises X2LError if there are no others, or for
    a wrong file.
    """
    index = None if video else stored_index(source)
    path = local_path(video or source)
    name = path.absolute().name if index is None else index.spec.video.get("file")
    asked = read_questions(local_path(file))
    about = [question for video, question in asked if not video or PurePosixPath(video).name == name]
    if not about:
        raise X2LError(f"{file}: holds no question about {name}, expected one with this name as its video")
    if others := len(asked) - len(about):
        warnings.warn(f"{file}: {others} questions about other videos are left out", stacklevel=2)
    return about
