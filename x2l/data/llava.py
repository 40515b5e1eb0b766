"""Data "llava": LLaVA-style records of videos, folders of frames and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from x2l.config.paths import local_path
from x2l.data._drawing import stratified
from x2l.data._records import Record, read_records
from x2l.errors import X2LError, require
from x2l.interfaces import Data
from x2l.items import Item, VideoFile
from x2l.types import Question
from x2l.video import Footage, Sampling, is_stills, open_stills

Kind = Literal["captions", "pictures", "texts"]


@dataclass
class Llava(Data):
    """Every record of a file, or `num` of them, drawn in proportion to their sources.

    Source: LLaVA's format, as Video-XL (arXiv 2409.14485) and Video-X^2L (arXiv 2506.21184) use it for
        videos: `gt_time_span` (seconds), `gt_frame_idx` (frames, from 0) say where the answer is seen.
    Differs: how the 4K post-training records were drawn is not stated; here by source, with a seed. A picture
        is one frame, not the patches that Video-XL cuts it into; the next ones are stretched to its size.
    """

    file: str
    """A JSON list, or *.jsonl with one record a line."""
    dir: str | None = None
    """What the paths of records are relative to (default: the folder of the file)."""
    num: int | None = None
    """How many records to draw; null: all."""
    seed: int = 0
    drop: list[Kind] = field(default_factory=list)
    """Records that are left out: those that only ask for captions, pictures, those of text only."""
    fps: float | None = None
    """Pictures a second of a folder of frames, or of several pictures (default: sampling.picture_fps, 1)."""

    def __post_init__(self):
        require(self.num is None or self.num > 0, "num", "at least one record", self.num)
        require(self.seed >= 0, "seed", "0 or more", self.seed)
        is_rate = self.fps is None or (self.fps > 0 and math.isfinite(self.fps))
        require(is_rate, "fps", "pictures per second above 0", self.fps)

    def __len__(self) -> int:
        return len(self._records)

    def ids(self) -> list[str]:
        """The ids of the records, in the order of the file; a record without one is called by its number."""
        return [record.id for record in self._records]

    def sample(self, number: int) -> Item:
        record = self._records[number]
        root = local_path(self.file).parent if self.dir is None else local_path(self.dir)
        paths = tuple(root / path for path in record.paths)
        opened = partial(_open, paths, record.is_video, self.fps)
        return Item(record.id, tuple(_questions(record)), opened, record.gold_frames)

    @cached_property
    def _records(self) -> list[Record]:
        kept = list(self._kept())
        if not kept:
            raise X2LError(f"{self.file}: expected a record that is not dropped")
        if self.num is None:
            return kept
        if self.num > len(kept):
            raise X2LError(f"{self.file}: has {len(kept)} records to draw from, expected num ({self.num})")
        return [kept[place] for place in stratified([record.group for record in kept], self.num, self.seed)]

    def _kept(self) -> Iterator[Record]:
        for number, record in enumerate(read_records(Path(self.file))):
            if not record.paths and "texts" not in self.drop:
                raise X2LError(
                    f"{self.file}: record {number} ({record.id}): has neither video nor image, "
                    "expected one of them; drop: [texts] leaves such records out"
                )
            if not self._drops(record):
                yield record

    def _drops(self, record: Record) -> bool:
        is_caption = "captions" in self.drop and record.only_asks_for_captions
        is_picture = "pictures" in self.drop and not record.is_video
        return not record.paths or is_caption or is_picture


def _questions(record: Record) -> Iterator[Question]:
    """One for each turn, with the turns before it."""
    for number, (asked, answer) in enumerate(record.turns):
        yield Question(
            text=asked,
            id=f"{record.id}-{number}",
            answer=answer,
            gold_spans_s=record.gold_spans_s,
            group=record.group,
            history=record.turns[:number],
        )


def _open(paths: tuple[Path, ...], is_video: bool, fps: float | None, sampling: Sampling) -> Footage:
    if is_video and not is_stills(paths[0]):
        return VideoFile(paths[0])(sampling)
    return open_stills(paths[0] if is_video else paths, sampling, fps)
