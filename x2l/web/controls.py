"""The controls of one setting."""

from __future__ import annotations

import gradio as gr

from x2l.interfaces import Backbone
from x2l.web.settings import Settings, choices, takes_k

NUM = 5
"""Controls of a setting: one for each of its fields, in their order."""


def controls(name: str, settings: Settings, backbone: Backbone) -> list[gr.components.Component]:
    """Controls that stand at a setting. name: put in front of their labels, to tell two settings apart."""
    with gr.Row():
        oracle = _methods(name, "oracle", settings.oracle, backbone)
        selector = _methods(name, "selector", settings.selector, backbone)
    with gr.Row():
        k = gr.Number(
            settings.k,
            label=f"{name}k",
            info="chunks in detail",
            precision=0,
            minimum=0,
            min_width=100,
            interactive=takes_k(settings.selector),
        )
        ratios = gr.Textbox(
            settings.ratios, label=f"{name}ratios", info="other ones read the video again", min_width=140
        )
        beta = gr.Slider(
            *(0, 2, settings.beta),
            step=0.1,
            label=f"{name}proportional attention",
            info="0: a token that stands for many counts as one",
            min_width=200,
        )
    selector.change(lambda chosen: gr.update(interactive=takes_k(chosen)), selector, k, queue=False)
    return [oracle, selector, k, ratios, beta]


def _methods(name: str, slot: str, chosen: str, backbone: Backbone) -> gr.Dropdown:
    return gr.Dropdown(
        choices(slot, backbone),
        value=chosen,
        label=f"{name}{slot}",
        info="a name, or {name: ..., field: ...}",
        allow_custom_value=True,
    )
