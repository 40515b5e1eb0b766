"""One video for many rows: opened and read once, for all that cut it alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields

import torch

from x2l.clock import Clock
from x2l.errors import X2LError
from x2l.evaluation.rows import READ, Row, fields_of
from x2l.interfaces import Oracle
from x2l.items import Item
from x2l.pipeline import Pipeline
from x2l.pipeline.indexing import Read
from x2l.storage.library import Indices
from x2l.types import Clip, Question, VideoIndex
from x2l.video import Footage, Sampling

MAX_BYTES = 2 << 30
"""Frames and tokens of a video that are held for other rows; a longer one is read again for each group."""


class BrokenVideoError(X2LError):
    """The frames of a video cannot be read, or are not what its questions are about."""


class SharedVideo:
    """The indices of one video that groups of rows ask, which are made one after the other.

    groups: of rows that share an index (see `make_rows`). indices: kept for other runs.
    """

    def __init__(
        self,
        item: Item,
        groups: Sequence[Sequence[Row]],
        max_bytes: int = MAX_BYTES,
        indices: Indices | None = None,
    ):
        self._item, self._opened, self._indices = item, dict[Sampling, Footage](), indices
        self._oracles: dict[str, list[Oracle]] = {}
        num_readers = Counter[str]()
        for group in groups:
            name = fields_of(group[0].recipe, READ)
            num_readers[name] += 1
            self._oracles.setdefault(name, []).extend(row.pipeline.oracle for row in group)
        # What a single group reads is held for nobody.
        self._readings = {name: Reading(max_bytes if num > 1 else 0) for name, num in num_readers.items()}

    def index(self, group: Sequence[Row]) -> VideoIndex:
        """The index that the rows of a group ask, with what each of their oracles stores about the chunks.

        Raises BrokenVideoError if the video cannot be read.
        """
        first, name = group[0], fields_of(group[0].recipe, READ)
        own = {field.name: getattr(first.pipeline, field.name) for field in fields(Pipeline)}
        own |= {"oracle": Together(self._oracles[name])}
        pipeline = ReadingPipeline(**own, reading=self._readings[name])
        footage = self._footage(group)
        try:
            return self._kept(pipeline, footage)
        except (X2LError, OSError):
            _require_readable(footage)
            raise

    def _kept(self, pipeline: Pipeline, footage: Footage) -> VideoIndex:
        if self._indices is None:
            return pipeline.index(footage)
        key = pipeline.key(footage)
        index = self._indices.get(key)
        if index is None:
            index = pipeline.index(footage)
            self._indices.put(key, index)
        return index

    def asked(self, group: Sequence[Row]) -> tuple[Question, ...]:
        """What the rows of a group are asked, gold frames as the time spans in which they see them.

        Raises BrokenVideoError for a frame that the video lacks.
        """
        footage = self._footage(group)
        try:
            return self._item.asked(footage)
        except X2LError as error:
            raise BrokenVideoError(str(error)) from error

    def _footage(self, group: Sequence[Row]) -> Footage:
        sampling = group[0].recipe.sampling
        if sampling not in self._opened:
            try:
                self._opened[sampling] = self._item.open(sampling)
            except (X2LError, OSError) as error:
                raise BrokenVideoError(str(error)) from error
        return self._opened[sampling]


class Reading:
    """The chunks of a video as they are read for the first time, which are then at hand."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._chunks: list[Read] | None = None
        self._seconds: dict[str, float] = {}

    def of(self, read: Iterator[Read], clock: Clock) -> Iterator[Read]:
        """The chunks, which are taken from `read` unless all of them are held.

        The seconds of those that are held are what it took to read them.
        """
        if self._chunks is None:
            return self._recorded(read, clock)
        clock.seconds.update(self._seconds)
        return iter(self._chunks)

    def _recorded(self, read: Iterator[Read], clock: Clock) -> Iterator[Read]:
        chunks, num_bytes = list[Read](), 0
        for each in read:
            num_bytes += _num_bytes(each)
            if num_bytes <= self._max_bytes:
                chunks.append(each)
            else:
                chunks.clear()
            yield each
        if num_bytes <= self._max_bytes:
            self._chunks = chunks
            self._seconds = {name: clock.seconds[name] for name in ("decode", "embed", "prepare")}


@dataclass
class ReadingPipeline(Pipeline):
    """A pipeline that reads a video unless it has been."""

    reading: Reading = field(default_factory=lambda: Reading(0))

    def read(self, clips: Iterable[Clip], position: int, clock: Clock | None = None) -> Iterator[Read]:
        clock = clock or Clock(torch.device("cpu"))
        return self.reading.of(super().read(clips, position, clock), clock)


@dataclass
class Together(Oracle):
    """Lets several oracles look at each chunk while its frames are at hand; it scores nothing itself."""

    oracles: list[Oracle] = field(default_factory=list)

    def score(self, question, index, backbone) -> None:
        return None


def _require_readable(footage: Footage) -> None:
    """Raise BrokenVideoError if a frame cannot be decoded; what else goes wrong is not the video's fault."""
    try:
        for _ in footage.clips():
            pass
    except (X2LError, OSError) as error:
        raise BrokenVideoError(str(error)) from error


def _num_bytes(read: Read) -> int:
    chunk, features = read
    tensors = [chunk.visual_tokens, *(tensor for named in features.values() for tensor in named.values())]
    tensors += [] if chunk.deepstack is None else [chunk.deepstack]
    return sum(each.nbytes for each in tensors) + (0 if chunk.frames is None else chunk.frames.nbytes)
