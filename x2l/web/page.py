"""The page: where everything is, and which event each control starts."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
from markupsafe import Markup

from x2l import registry
from x2l.web import panels
from x2l.web.controls import controls
from x2l.web.events import Events
from x2l.web.offered import Offered
from x2l.web.settings import Settings
from x2l.web.studio import Studio

HEADER = Markup(
    '<header class="x2l-header"><h1>x2l</h1><p>Ask a long video. It is read once and compressed twice; '
    "each question re-loads detail only where it needs it.</p><small>{} on {}</small></header>"
)


def make_page(studio: Studio, offered: Offered) -> gr.Blocks:
    """The page of a studio."""
    events, backbone = Events(studio, offered), studio.backbone
    with gr.Blocks(title="x2l", analytics_enabled=False, fill_width=True) as page:
        _html(HEADER.format(registry.name_of(type(backbone)), backbone.device))
        with gr.Row():
            with gr.Column(scale=6, min_width=420):
                player = _html(panels.NO_VIDEO)
                state = _html(elem_id="state")
                with gr.Row():
                    sample = gr.Button(offered.label, elem_id="sample")
                    upload = gr.UploadButton("Upload a video", file_types=["video"], elem_id="upload")
            with gr.Column(scale=5, min_width=360):
                beginnings = [{"text": text} for text in offered.questions]
                chat = gr.Chatbot(show_label=False, examples=beginnings, elem_id="chat", **_PLAIN)
                question = gr.Textbox(label="Question", placeholder="Ask about the video", lines=2)
                message = _html(elem_id="message")
                with gr.Row():
                    ask = gr.Button("Ask", variant="primary")
                    forget = gr.Button("New conversation")
                with gr.Row(elem_id="ways"):
                    follows = _checkbox("Follow-up")
                    compares = _checkbox("Side by side")
                    times = _checkbox("Uncompressed, too")
        with gr.Row(elem_id="results"):
            first, second = _html(panels.NO_ANSWER), _html(visible=False)
        with gr.Accordion("Settings", open=False) as settings, gr.Row():
            start = Settings.of(studio.base)
            with gr.Column(elem_id="setting-a"):
                of_first = controls(start, backbone)
            with gr.Column(visible=False, elem_id="setting-b") as beside:
                of_second = controls(replace(start, selector="constant"), backbone)

        parts = [player, state, message, first, second, chat]
        in_turn = {"concurrency_limit": None, "show_progress": "hidden"}
        sample.click(events.open, of_first, parts, **in_turn)
        upload.upload(events.upload, [upload, *of_first], parts, **in_turn)
        asked = [question, follows, compares, times, *of_first, *of_second]
        answered = gr.on([ask.click, question.submit], events.ask, asked, [*parts, ask], **in_turn)
        answered.then(_ready, None, ask, queue=False, show_progress="hidden")
        chat.example_select(_text, None, question, queue=False)
        forget.click(events.forget, None, parts, show_progress="hidden")
        compares.change(_beside, compares, [beside, settings], queue=False)
        page.unload(events.leave)
    return page


_PLAIN = {"height": 300, "buttons": [], "render_markdown": False, "group_consecutive_messages": False}
"""A conversation in the words that were said."""


def _text(chosen: gr.SelectData) -> str:
    return chosen.value["text"]


def _ready() -> dict:
    """The button takes the next question, whatever became of the one before."""
    return gr.update(interactive=True)


def _beside(compares: bool) -> list:
    """The second setting is seen where it is used."""
    return [gr.update(visible=compares), gr.update(open=True) if compares else gr.skip()]


def _html(value: str = "", **options) -> gr.HTML:
    return gr.HTML(value, padding=False, **options)


def _checkbox(label: str) -> gr.Checkbox:
    return gr.Checkbox(label=label, container=False, min_width=110)
