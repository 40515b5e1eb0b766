"""The checkpoint that is verified, and what it is verified on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from x2l import registry
from x2l.cache import FilledCache, assemble
from x2l.chunkers.fixed import Fixed
from x2l.engine.adapters import base_of
from x2l.engine.language_model import LanguageModelBackbone
from x2l.errors import X2LError
from x2l.pipeline import Pipeline
from x2l.storage.files import read_json
from x2l.types import Chunk, Clip, Plan, Question, VideoIndex
from x2l.verification.figures import Figure
from x2l.verification.footage import Frames

QUESTION = Question("Is it mostly day or mostly night in the video?")
_CHUNKS = 4


@dataclass
class Subject:
    """A checkpoint folder, the class that loads it, and the video and question that it is verified on.

    figures: what checks measure on their way.
    """

    folder: Path
    backbone_class: type[LanguageModelBackbone]
    video: Frames
    device: str = "cpu"
    dtype: str = "float32"
    progress: bool = False
    question: Question = QUESTION
    figures: list[Figure] = field(default_factory=list)

    @cached_property
    def backbone(self) -> LanguageModelBackbone:
        """Raises X2LError if the folder cannot be loaded."""
        name = registry.name_of(self.backbone_class)
        where = {"model": str(self.folder), "device": self.device, "dtype": self.dtype}
        return registry.build("backbone", {"name": name, **where})

    @property
    def clip(self) -> Clip:
        """The whole video."""
        (clip,) = self.video.clips([self.video.num_frames])
        return clip

    @cached_property
    def chunk(self) -> Chunk:
        """The whole video as the language model reads it."""
        position = self.backbone.begin(self.clip.video).num_tokens
        pipeline = self.pipeline("identity", (1,), self.video.num_frames)
        ((chunk, _),) = pipeline.read([self.clip], position)
        return chunk

    @property
    def chunk_frames(self) -> int:
        """Frames of each of about four chunks: as many as their tokens are shared by, or a multiple."""
        step = self.backbone_class.frames_per_step
        return -(-self.video.num_frames // (_CHUNKS * step)) * step

    @cached_property
    def ids(self) -> Int[Tensor, " tokens"]:
        """What stands behind the video."""
        return self.backbone.encode_question(self.question)

    def pipeline(self, compressor: str, ratios: tuple[int, ...], chunk_frames: int) -> Pipeline:
        """Asks on the most relevant chunk at the first ratio."""
        parts = {"compressor": compressor, "oracle": "attention", "selector": {"name": "top_k", "k": 1}}
        built = {slot: registry.build(slot, spec) for slot, spec in parts.items()}
        return Pipeline(self.backbone, **built, ratios=ratios, chunker=Fixed(chunk_frames))

    @cached_property
    def in_chunks(self) -> VideoIndex:
        """The video in chunks that are not compressed."""
        return self.uncompressed(self.chunk_frames)

    def uncompressed(self, chunk_frames: int) -> VideoIndex:
        return self.pipeline("identity", (1,), chunk_frames).index(self.video, self.progress)

    @torch.no_grad()
    def cache(self, index: VideoIndex) -> FilledCache:
        """All that is in an index without compression, at the positions of the video; a new one each time."""
        return assemble(index, Plan((1,) * len(index.chunks)), self.backbone, "original")


def backbone_class(folder: Path, name: str | None) -> type[LanguageModelBackbone]:
    """The class of a backbone by its name, else the one that is made for the `model_type` in config.json.

    Raises X2LError if there is none, or if several are.
    """
    if name is not None:
        named = registry.get("backbone", name)
        if not issubclass(named, LanguageModelBackbone):
            raise X2LError(f"--backbone {name}: expected one with a language model of transformers")
        return named
    kind = read_json(base_of(folder) / "config.json").get("model_type")
    known = {each: registry.get("backbone", each) for each in registry.names("backbone")}
    made_for = {each: known[each] for each in known if kind in getattr(known[each], "model_types", ())}
    if len(made_for) != 1:
        these = ", ".join(made_for or known)
        raise X2LError(f"{folder}: its model_type is {kind!r}, expected --backbone with one of {these}")
    return next(iter(made_for.values()))
