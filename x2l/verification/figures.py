"""What a checkpoint costs: measured, beside what `x2l estimate` counts. Figures have no verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from x2l.costs.dry_run import Sheet
from x2l.types import Answer, VideoIndex

Unit = Literal["tokens", "bytes", "seconds", "tokens/s"]


@dataclass(frozen=True)
class Figure:
    """One number; None where it is not measured here, or not estimated."""

    name: str
    unit: Unit
    measured: int | float | None
    estimated: int | float | None = None


def figures_of(
    index: VideoIndex,
    answer: Answer,
    sheet: Sheet | None,
    weight_bytes: int,
    peak_bytes: int | None,
    tokens_per_s: float,
) -> list[Figure]:
    """Figures of a video that was indexed and asked once."""
    levels = {ratio: sum(chunk.levels[ratio].num_tokens for chunk in index.chunks) for ratio in index.ratios}
    seconds = answer.seconds
    per_chunk_s = (seconds["embed"] + seconds["prefill"]) / len(index.chunks)
    hybrid = sheet and sheet.hybrid_tokens
    return [
        Figure("the whole video", "tokens", index.num_visual_tokens, sheet and sheet.visual_tokens),
        *(
            Figure(f"at {ratio}x", "tokens", tokens, sheet and sheet.level_tokens[ratio])
            for ratio, tokens in levels.items()
        ),
        Figure("cache of the question", "tokens", answer.kv_tokens, hybrid),
        Figure("cache of the question", "bytes", answer.kv_bytes, sheet and hybrid * sheet.bytes_per_token),
        Figure("index, every level", "bytes", index.num_bytes, sheet and sheet.kv_bytes_stored),
        Figure("weights", "bytes", weight_bytes),
        Figure("peak on the device", "bytes", peak_bytes, sheet and sheet.peak_bytes),
        Figure("each chunk, tower and pre-fill", "seconds", per_chunk_s),
        Figure("question to first token", "seconds", answer.first_token_s),
        Figure("writing", "tokens/s", tokens_per_s),
    ]
