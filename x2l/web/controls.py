"""The controls of one setting."""

from __future__ import annotations

import gradio as gr

from x2l.interfaces import Backbone
from x2l.web.settings import Settings, choices, takes_k

NUM = 5
"""Controls of a setting: one for each of its fields, in their order."""


def controls(settings: Settings, backbone: Backbone) -> list[gr.components.Component]:
    """Controls that stand at a setting."""
    with gr.Row():
        oracle = _methods("oracle", settings.oracle, backbone)
        selector = _methods("selector", settings.selector, backbone)
    with gr.Row():
        k = gr.Number(
            settings.k,
            label="k",
            info="chunks in detail",
            precision=0,
            minimum=0,
            min_width=100,
            interactive=takes_k(settings.selector),
        )
        ratios = gr.Textbox(settings.ratios, label="ratios", info="tokens in / tokens kept", min_width=140)
        beta = gr.Slider(
            *(0, 2, settings.beta),
            step=0.1,
            label="proportional attention",
            info="how much a token counts that stands for many",
            min_width=200,
        )
    selector.change(lambda chosen: gr.update(interactive=takes_k(chosen)), selector, k, queue=False)
    return [oracle, selector, k, ratios, beta]


def _methods(slot: str, chosen: str, backbone: Backbone) -> gr.Dropdown:
    return gr.Dropdown(
        choices(slot, backbone),
        value=chosen,
        label=slot,
        info="a name, or {name: ..., field: ...}",
        allow_custom_value=True,
    )
