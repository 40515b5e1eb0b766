"""Backbones whose model reads text between frames: a chunk is a list of pieces, put in a row here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from x2l.engine.language_model import LanguageModelBackbone
from x2l.rounding import exact_convolutions
from x2l.types import Chunk, Clip, X2LError


@dataclass(frozen=True)
class Block:
    """Visual tokens that follow one another without text.

    grid: steps in time, rows and columns, where the rotary embedding has such axes.
    times: positions of the steps along the axis of time; None: 0, 1, ...
    start: where the block stands; None: behind what came before.
    """

    tokens: Float[Tensor, "tokens hidden"]
    grid: tuple[int, int, int] | None = None
    times: Int[Tensor, " steps"] | None = None
    start: int | None = None
    deepstack: Float[Tensor, "levels tokens hidden"] | None = None

    def offsets(self) -> Int[Tensor, "axes tokens"]:
        """Positions of the tokens, from where the block starts."""
        if self.grid is None:
            return torch.arange(len(self.tokens))[None]
        steps, rows, columns = self.grid
        times = torch.arange(steps) if self.times is None else self.times
        axes = torch.meshgrid(times, torch.arange(rows), torch.arange(columns), indexing="ij")
        return torch.stack([axis.flatten() for axis in axes])

    @property
    def extent(self) -> int:
        """Distance from the start of the block to the next token."""
        return len(self.tokens) if self.grid is None else max(self.grid[1:])


class ReadingBackbone(LanguageModelBackbone):
    """A subclass says what is read for a clip, `pieces`; positions and masks follow from that."""

    reads_words = True

    @abstractmethod
    def pieces(self, clip: Clip) -> Iterable[str | Block]:
        """Everything that the model reads for a clip, in order: text and visual tokens."""

    def embed(
        self, frames: UInt8[np.ndarray, "frames height width 3"], times_s: Float[np.ndarray, " frames"]
    ) -> Float[Tensor, "tokens hidden"]:
        pieces = self._pieces(Clip(frames, times_s))
        return torch.cat([piece.tokens for piece in pieces if isinstance(piece, Block)])

    def read(self, index: int, clip: Clip, position: int) -> Chunk:
        parts = []
        for piece in self._pieces(clip):
            block = Block(self.embed_text(piece)) if isinstance(piece, str) else piece
            start = position if block.start is None else block.start
            parts.append((isinstance(piece, str), block, start + block.offsets()))
            position = start + block.extent
        is_text, blocks, positions = zip(*parts, strict=True)
        deepstack = [block.deepstack for block in blocks if block.deepstack is not None]
        return Chunk(
            index,
            clip.times_s,
            torch.cat([block.tokens for block in blocks]),
            clip.frames,
            torch.cat([torch.full((len(b.tokens),), t) for t, b in zip(is_text, blocks, strict=True)])
            if any(is_text)
            else None,
            torch.cat([rows.expand(self.num_axes, -1) for rows in positions], dim=1).to(self.device),
            position,
            self.frames_per_step,
            torch.cat(deepstack, dim=1) if deepstack else None,
        )

    def _pieces(self, clip: Clip) -> list[str | Block]:
        self._check_length(clip)
        with exact_convolutions():
            return list(self.pieces(clip))

    def _check_length(self, clip: Clip) -> None:
        is_last = clip.video is None or clip.first_frame + len(clip.frames) == clip.video.num_frames
        if len(clip.frames) % self.frames_per_step and not is_last:
            raise X2LError(
                f"chunk_frames: expected a multiple of {self.frames_per_step} for this backbone, "
                f"got {len(clip.frames)}"
            )
