"""Where uploaded videos lie: a folder of this run, gone when it ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

FOLDER = "GRADIO_TEMP_DIR"
"""The variable that tells Gradio where to put what it is sent."""


@dataclass(frozen=True)
class Uploads:
    """A folder in which each upload has a folder of its own."""

    folder: Path

    def claim(self, sent: Path) -> Path:
        """Where an upload lies, away from what others send of the same content."""
        return Path(shutil.move(sent, Path(mkdtemp(dir=self.folder)) / sent.name))

    def remove(self, file: Path) -> None:
        """Remove an upload that was claimed, and nothing that lies elsewhere."""
        if file.parent.parent == self.folder:
            shutil.rmtree(file.parent, ignore_errors=True)


@contextmanager
def uploads() -> Iterator[Uploads]:
    """The uploads of this run; Gradio puts what it is sent in their folder."""
    with TemporaryDirectory(prefix="x2l-web-") as folder:
        before = os.environ.get(FOLDER)
        os.environ[FOLDER] = folder
        try:
            yield Uploads(Path(folder))
        finally:
            os.environ.pop(FOLDER)
            if before is not None:
                os.environ[FOLDER] = before
