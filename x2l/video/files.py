"""Video files by their names."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"),
    *(".ts", ".vob", ".webm", ".wmv"),
)


def videos_in(folder: Path) -> list[str]:
    """Paths of the video files in a folder and those below it, sorted; hidden ones are none of them."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    shown = (file for file in files if not any(part.startswith(".") for part in file.parts))
    return sorted(file.as_posix() for file in shown if (folder / file).is_file())
