"""Samples with their frames decoded, in the process that loads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from x2l.broken import require_few
from x2l.chunkers import ChunkFrames, spelling
from x2l.errors import X2LError
from x2l.interfaces import Chunker, Data
from x2l.items import Item
from x2l.training.token_cache import TokenCache
from x2l.types import Clip, Question, VideoFacts
from x2l.video import Sampling

_FEW = 100
"""Broken videos are not held against fewer videos than this, unless there are fewer."""


@dataclass(frozen=True)
class VideoQA:
    """A decoded video and questions about it: what one training step sees.

    number: which video of the run this is, on all devices together (of validation: the sample).
    clips: one for each chunk, cut as `chunk_frames` spells. facts, fingerprint: as of x2l.video.Footage.
    Without clips where the tokens of the video are kept.
    skipped: "name: why" for each broken video that was passed over to get to this one.
    """

    name: str
    number: int
    clips: tuple[Clip, ...]
    chunk_frames: ChunkFrames
    facts: VideoFacts
    fingerprint: Mapping[str, Any]
    questions: tuple[Question, ...]
    skipped: tuple[str, ...] = ()

    @classmethod
    def unread(cls, skipped: tuple[str, ...]) -> VideoQA:
        """No video and no question: a loading process found only broken ones."""
        return cls("", -1, (), 0, VideoFacts(0, 0.0), {}, (), skipped)

    def to(self, device: torch.device) -> VideoQA:
        """The same: frames stay on the host until they are embedded. Lightning calls this."""
        return self


@dataclass
class QAReader:
    """Decodes samples by number, and remembers which of them are broken."""

    source: Data
    sampling: Sampling
    chunker: Chunker
    max_broken_share: float
    """Of the different samples that this process has tried, 0..1."""
    token_cache: TokenCache | None = None
    """The videos that it holds are not decoded."""
    _tried: set[int] = field(default_factory=set, init=False)
    _broken: dict[int, str] = field(default_factory=dict, init=False)

    def read(self, number: int) -> VideoQA | str:
        """A sample, or one line that says what is wrong with it.

        Raises X2LError if more than the allowed share of the samples is broken, which names them; a few
        samples at the start count as if a hundred (or all that there are) had been tried.
        """
        self._tried.add(number)
        if number not in self._broken:
            sample = self.source.sample(number)
            try:
                return self._decoded(sample, number)
            except (X2LError, OSError) as error:
                self._broken[number] = f"{sample.name}: {error}"
                few = min(_FEW, len(self.source))
                require_few(self._broken.values(), len(self._tried), self.max_broken_share, few)
        return self._broken[number]

    def _decoded(self, sample: Item, number: int) -> VideoQA:
        footage, chunk_frames = sample.open(self.sampling), spelling(self.chunker)
        fingerprint = footage.fingerprint()
        cache = self.token_cache
        is_kept = cache is not None and cache.path(fingerprint, chunk_frames).is_file()
        return VideoQA(
            name=sample.name,
            number=number,
            questions=sample.asked(footage),
            clips=() if is_kept else tuple(footage.clips(self.chunker.lengths(footage, None))),
            chunk_frames=chunk_frames,
            facts=footage.facts,
            fingerprint=fingerprint,
        )


def require_no_backbone(chunker: Chunker, field: str) -> None:
    """Raise X2LError, naming a field, for a chunker that processes which load videos cannot run."""
    if chunker.requires:
        needed = ", ".join(sorted(chunker.requires))
        raise X2LError(
            f"{field}: {spelling(chunker)} needs {needed} of a backbone, expected what cuts without one "
            "while training"
        )
