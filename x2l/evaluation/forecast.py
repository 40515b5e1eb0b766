"""What an evaluation is about to do: what it reads, tokens, memory, and the least time that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from x2l.clock import Clock
from x2l.costs.dry_run import Sheet, dry_run
from x2l.errors import X2LError
from x2l.evaluation.rows import Row
from x2l.interfaces import Backbone
from x2l.items import Item
from x2l.storage.hub import one_line
from x2l.video import Footage, Video

_SIDES = {"cpu": 512}
"""Of the square matrices that tell how fast a device is; others: 4096."""
_TRIES = 3
_UNKNOWN_SIZE = (360, 640)
"""Height and width of frames that are no file's; few models look at them."""


def forecast(groups: Sequence[Sequence[Row]], items: Sequence[Item], num_processes: int = 1) -> Iterator[str]:
    """Lines about each row, as if every video were the first that can be opened.

    groups: of rows that share an index. num_processes: share the videos. Sizes are those of the published
    model that a backbone is named after; a row whose costs are not known on paper says why, and its time is
    not counted.
    """
    num_questions = sum(len(item.questions) for item in items)
    yield f"{len(items)} videos, {num_questions} questions, {sum(map(len, groups))} rows"
    least_s = 0.0
    for group in groups:
        backbone, footage = group[0].pipeline.backbone, _first(items, group[0])
        flops_of_index = flops_of_answers = 0
        for row in group:
            try:
                sheet = _sheet(row, footage)
            except Exception as error:  # whatever a part raises that looks at values, which there are none of
                yield f"{row.name}: no estimate, {one_line(error)}"
                continue
            yield f"{row.name}: {_text(sheet)}"
            flops_of_index = sheet.tower_flops + sheet.prefill_flops
            flops_of_answers += sheet.answer_flops
        flops = len(items) * flops_of_index + num_questions * flops_of_answers
        least_s += flops / _flops_per_s(backbone) / num_processes
    yield f"at least {_duration(least_s)}; decoding of videos and writing of answers come on top"


def _first(items: Sequence[Item], row: Row) -> Footage | None:
    for item in items:
        try:
            return item.open(row.recipe.sampling)
        except (X2LError, OSError):
            continue
    return None


def _sheet(row: Row, footage: Footage | None) -> Sheet:
    """Raises X2LError without a video, or without sizes."""
    backbone, chunk_frames = row.pipeline.backbone, row.recipe.chunk_frames
    if footage is None:
        raise X2LError("no video can be opened")
    if backbone.sizes is None:
        raise X2LError(f"{type(backbone).__name__} declares no sizes")
    height, width = (footage.height, footage.width) if isinstance(footage, Video) else _UNKNOWN_SIZE
    return dry_run(
        backbone.sizes.at(height, width, footage.num_frames),
        row.pipeline.compressor,
        row.pipeline.selector,
        row.recipe.ratios,
        footage.num_frames,
        chunk_frames if isinstance(chunk_frames, int) else backbone.sizes.chunk_frames,
        backbone.geometry.dtype,
    )


def _text(sheet: Sheet) -> str:
    return (
        f"{sheet.num_frames} frames, {sheet.visual_tokens:,} tokens, {sheet.hybrid_tokens:,} in the cache; "
        f"index {sheet.kv_bytes_stored / 1e9:.3g} GB, device {sheet.peak_bytes / 1e9:.3g} GB ({sheet.model})"
    )


def _flops_per_s(backbone: Backbone) -> float:
    """What a product of matrices reaches on the backbone's device, in its precision."""
    side = _SIDES.get(backbone.device.type, 4096)
    matrix = torch.ones(side, side, device=backbone.device, dtype=getattr(torch, backbone.geometry.dtype))
    seconds = []
    for _ in range(_TRIES):
        clock = Clock(backbone.device)
        with clock.span("product"):
            matrix @ matrix
        seconds.append(clock.seconds["product"])
    return 2 * side**3 / min(seconds)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
