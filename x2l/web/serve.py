"""Serves the page, to this machine unless told otherwise, with nothing from elsewhere."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import gradio as gr

from x2l.drawing.palette import COLOURS
from x2l.drawing.timeline import STYLE
from x2l.errors import X2LError
from x2l.web.offered import ASSETS, Offered
from x2l.web.page import make_page
from x2l.web.studio import Studio

_FONT = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
_CODE = ["ui-monospace", "monospace"]
_DARKER = "#005a8e"


def serve(
    studio: Studio, offered: Offered, host: str, port: int, most_bytes: int, on_start: Callable[[str], None]
) -> None:
    """Serve until the process is interrupted or told to end.

    most_bytes: of an upload. on_start: is given the address. Raises X2LError if the port cannot be had.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    page = make_page(studio, offered)
    try:
        on_start(_launch(page, studio, offered, host, port, most_bytes))
        page.block_thread()
    finally:
        studio.worker.close()
        page.close(verbose=False)
        signal.signal(signal.SIGTERM, before)


def _launch(page: gr.Blocks, studio: Studio, offered: Offered, host: str, port: int, most_bytes: int) -> str:
    """The address at which the page is served from here on, in threads of its own."""
    script = (ASSETS / "page.js").read_text(encoding="utf-8")
    options = dict(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        allowed_paths=[str(offered.path.resolve()), str(studio.uploads.folder)],
        max_file_size=most_bytes,
        theme=_theme(),
        css=STYLE,
        css_paths=[ASSETS / "page.css"],
        head=f"<script>{script}</script>",
        footer_links=[],
    )
    try:
        _, address, _ = page.launch(**options)
    except OSError as error:
        raise X2LError(f"--port: {port} cannot be had on {host}, expected one that is free") from error
    return address


def _theme() -> gr.themes.Base:
    """Gradio's, in the colours of the drawings and with fonts that are on the machine."""
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=_FONT, font_mono=_CODE)
    return theme.set(
        button_primary_background_fill=COLOURS[0],
        button_primary_background_fill_dark=COLOURS[0],
        button_primary_background_fill_hover=_DARKER,
        button_primary_background_fill_hover_dark=_DARKER,
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_dark="transparent",
        button_secondary_border_color="*border_color_primary",
        button_border_width="1px",
        button_large_text_weight="500",
        button_large_text_size="*text_md",
        checkbox_background_color_selected=COLOURS[0],
        checkbox_background_color_selected_dark=COLOURS[0],
        slider_color=COLOURS[0],
        slider_color_dark=COLOURS[0],
    )
