"""The parts of the page that show a video and an answer, as HTML. What people wrote is escaped by Markup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from x2l.drawing.timeline import SCORE, level, swatch, timeline
from x2l.drawing.words import minutes, size, span
from x2l.errors import X2LError
from x2l.types import Answer, ChunkKV, Span, VideoIndex
from x2l.video import Footage
from x2l.web.shown import Shown, Timing

NO_VIDEO = Markup(
    '<div class="x2l-stage x2l-empty"><p>Choose a video</p>'
    "<small>It is read once, chunk by chunk; then ask as often as you like.</small></div>"
)
NO_ANSWER = Markup(
    '<div class="x2l-card x2l-empty"><p>The time line of your question appears here</p>'
    "<small>How relevant each part of the video is, and which parts are re-loaded in detail.</small></div>"
)


def player(video: Footage) -> Markup:
    """The video, as the server hands it out."""
    facts = f"{video.path.name} · {minutes(video.duration_s)} · {video.num_frames:,} frames are looked at"
    return Markup(
        '<div class="x2l-stage"><video src="{}" controls muted playsinline preload="metadata"></video>'
        "<p class='x2l-unplayable'>This browser cannot play the file; x2l reads it all the same.</p></div>"
        "<small>{}</small>"
    ).format(f"/gradio_api/file={quote(str(video.path.resolve()))}", facts)


def opening(path: Path) -> Markup:
    """A video that waits for its turn."""
    return Markup("<small>Opening {}</small>").format(path.name)


def progress(chunks: Sequence[ChunkKV], video: Footage, doing: str = "Reading") -> Markup:
    """How far a video is read: a bar of the chunks that are."""
    widths = [100 * chunk.num_frames / video.num_frames for chunk in chunks]
    bars = Markup("").join(Markup('<i style="width:{:.3f}%"></i>').format(width) for width in widths)
    seen_s = chunks[-1].end_s if chunks else 0
    return Markup(
        '<div class="x2l-progress" role="progressbar" aria-valuenow="{:.0f}" aria-label="{}"><div>{}</div>'
        "<small>{}: {} chunks, {} of {}</small></div>"
    ).format(sum(widths), doing, bars, doing, len(chunks), minutes(seen_s), minutes(video.duration_s))


def indexed(index: VideoIndex) -> Markup:
    """What an index is."""
    seconds = sum(index.spec.seconds.values())
    levels = ", ".join(f"{ratio}x" for ratio in index.ratios)
    return Markup('<small class="x2l-ready">Read once in {:.1f} s: {} chunks at {}, {}</small>').format(
        seconds, len(index.chunks), levels, size(index.num_bytes)
    )


def error(refused: X2LError) -> Markup:
    """What is wrong, in one line."""
    return Markup('<div class="x2l-error" role="alert">{}</div>').format(" ".join(str(refused).split()))


def waiting(name: str, text: str = "") -> Markup:
    """An answer while it is written."""
    return Markup(
        '<div class="x2l-card">{}<p class="x2l-answer">{}<i class="x2l-cursor"></i></p></div>'
    ).format(_name(name), text)


def result(shown: Shown) -> Markup:
    """An answer: its text, its time line, its evidence and its costs."""
    answer, chunks = shown.answer, shown.index.chunks
    bounds_s = [0.0, *(chunk.start_s for chunk in chunks[1:]), shown.duration_s]
    return Markup(
        '<div class="x2l-card x2l-result">{}<p class="x2l-answer">{}</p>{}'
        '<div class="x2l-legend">{}</div><div class="x2l-lines">{}<i class="x2l-playhead"></i></div>'
        "{}{}</div>"
    ).format(
        _name(shown.name),
        answer.text,
        Markup("").join(Markup('<p class="x2l-note">{}</p>').format(note) for note in shown.notes),
        _legend(shown),
        timeline(answer.plan, bounds_s, answer.kv_tokens_per_chunk),
        _evidence(shown),
        _figures(shown),
    )


def _name(name: str) -> Markup:
    return Markup('<span class="x2l-name">{}</span>').format(name) if name else Markup("")


def _legend(shown: Shown) -> Markup:
    plan, ratios = shown.answer.plan, shown.index.ratios
    names = {ratios[-1]: "the gist: H-KVs, ", ratios[0]: "in detail: L-KVs, "}
    used = sorted({*plan.ratios}, key=lambda ratio: ratio or math.inf)
    entries = [(SCORE, "relevance to the question")] if plan.scores else []
    entries += [(swatch(ratio), names.get(ratio, "") + level(ratio)) for ratio in used]
    return Markup("").join(Markup("<span>{}{}</span>").format(*entry) for entry in entries)


def _evidence(shown: Shown) -> Markup:
    cards = Markup("").join(map(_card, shown.evidence, shown.thumbnails))
    left_out = len(shown.answer.evidence) - len(shown.evidence)
    more = Markup("<small>and {} more</small>").format(left_out) if left_out else Markup("")
    return Markup('<div class="x2l-evidence">{}{}</div>').format(cards, more)


def _card(shown: Span, picture: str) -> Markup:
    score = "" if shown.score is None else f"score {shown.score:.3g}"
    return Markup(
        '<button type="button" data-seek="{:g}"><img src="{}" alt=""><span>{}</span>'
        "<small>{}</small></button>"
    ).format(shown.start_s, picture, span(shown.start_s, shown.end_s), score)


def _figures(shown: Shown) -> Markup:
    answer = shown.answer
    figures = [
        ("Cache gone", f"{answer.cache_reduction:.0%}", "of the video's KV tokens"),
        ("KV tokens", f"{answer.kv_tokens:,}", f"uncompressed {answer.kv_tokens_full:,}"),
        ("KV memory", size(answer.kv_bytes), f"uncompressed {size(answer.kv_bytes_full)}"),
        _first_token(answer, shown.timing),
    ]
    cells = Markup("").join(
        Markup("<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>").format(*figure) for figure in figures
    )
    return Markup('<dl class="x2l-figures">{}</dl>').format(cells)


def _first_token(answer: Answer, timing: Timing | None) -> tuple[str, str, str]:
    if timing is None:
        return "First token", _ms(answer.first_token_s), "uncompressed: not timed"
    beside = f"uncompressed {_ms(timing.full_s)}, says “{timing.full_text}”"
    return "First token", _ms(timing.first_token_s), beside


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms"
