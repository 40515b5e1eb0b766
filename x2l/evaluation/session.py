"""run.json: what a run is about, when it was worked on, and which videos are broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from x2l.broken import require_few
from x2l.errors import X2LError
from x2l.evaluation import provenance
from x2l.evaluation.hashes import asked_hash, questions_hash
from x2l.evaluation.recipe import Evaluation
from x2l.evaluation.results import RUN, Key
from x2l.evaluation.rows import Row
from x2l.items import Item
from x2l.storage.files import read_json, write_json


class Session:
    """Writes run.json when a session of a run starts, and what comes up in it.

    groups: of rows, as they are asked. hashes: by video and id of the questions about videos that can be read
    (see x2l.evaluation.hashes). writes: whether it is this process that does, of several.
    keys: of all lines that there are to write (see x2l.evaluation.results), by video. broken: "name: why" by
    video.
    Raises X2LError if the folder holds results of another recipe or other weights.
    """

    def __init__(
        self,
        out: Path,
        evaluation: Evaluation,
        groups: Sequence[Sequence[Row]],
        items: list[Item],
        hashes: Mapping[str, Mapping[str, str]],
        writes: bool = True,
    ):
        self.hashes, self.broken = hashes, dict[str, str]()
        self.keys = {
            video: [(row.name, each) for group in groups for each in asked.values() for row in group]
            for video, asked in hashes.items()
        }
        rows = [row for group in groups for row in group]
        self._out, self._num_videos, self._max_share = out, len(items), evaluation.max_broken_share
        self._devices = [row.pipeline.backbone.device for row in rows]
        same = {"recipe_hash": evaluation.hash(), **_weights(rows)}
        self._run = {
            **same,
            "questions_hash": questions_hash(hashes),
            "asked_hash": asked_hash(item.questions for item in items),
            "asked": hashes,
            "recipe": evaluation.mapping,
            "num_answers": len(self.all_keys),
            "videos": {item.name: _path_from(out, item.path) for item in items if item.path},
            "broken": [],
            "sessions": check_same(out, same).get("sessions", []),
        }
        self._writes, self._is_noted = writes, False
        self._write()

    @property
    def all_keys(self) -> list[Key]:
        """In the order in which a single process writes the lines."""
        return list(chain.from_iterable(self.keys.values()))

    def note_answer(self) -> None:
        """A session that answers nothing is not noted: it would date answers of earlier ones."""
        if self._writes and not self._is_noted:
            self._run["sessions"].append(provenance.session(self._devices))
            self._is_noted = True
            self._write()

    def note_broken(self, videos: Mapping[str, str]) -> None:
        """videos: why each cannot be read. Raises X2LError if too many are broken."""
        self.broken |= {name: f"{name}: {why}" for name, why in videos.items()}
        self._run["broken"] = list(self.broken.values())
        self._write()
        require_few(self.broken.values(), self._num_videos, self._max_share)

    def _write(self) -> None:
        if self._writes:
            write_json(self._out / RUN, self._run)


def check_same(out: Path, same: dict[str, Any]) -> dict[str, Any]:
    """Contents of run.json ({} in a new folder); raises X2LError if it is about something else."""
    if not (out / RUN).is_file():
        return {}
    there = read_json(out / RUN)
    for name, value in same.items():
        if there.get(name) != value:
            raise X2LError(
                f"{out}: holds results of another {name}, expected the same; choose another folder"
            )
    return there


def _path_from(out: Path, video: Path) -> str:
    """Within the folder of results, where it lies there: both may be moved together."""
    whole, folder = video.absolute(), out.absolute()
    return (whole.relative_to(folder) if whole.is_relative_to(folder) else whole).as_posix()


def _weights(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Identities of the weights by slot and row; of slots that usually have none, where one has some."""
    slots = ("backbone", "oracle", "compressor", "selector")
    by_slot = {f"{slot}s": {row.name: getattr(row.pipeline, slot).identity for row in rows} for slot in slots}
    usual = ("backbones", "oracles")
    return {slot: named for slot, named in by_slot.items() if slot in usual or any(named.values())}
