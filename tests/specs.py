"""Specs of the shipped methods, also of those that their name alone does not build: files stand behind."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from oracle_checkpoints import save_blip, save_languagebind

_FOLDER = TemporaryDirectory()


def spec(slot: str, name: str) -> dict:
    """{name, **fields}: the defaults, where these can be built."""
    return {"name": name} | (_FIELDS[name]() if slot == "oracle" and name in _FIELDS else {})


def by_length(question, index, features):
    """Longer chunks first."""
    return [chunk.end_s - chunk.start_s for chunk in index.chunks]


@cache
def _model(save) -> dict:
    return {"model": str(save(Path(_FOLDER.name) / save.__name__))}


@cache
def _scores() -> dict:
    questions = ("What colour is the card?", "How many stars are there?")
    lines = [{"video": "noise", "question": text, "scores": [0.5, 2, -1, 0]} for text in questions]
    path = Path(_FOLDER.name) / "scores.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return {"path": str(path)}


@cache
def _said() -> dict:
    path = Path(_FOLDER.name) / "said.srt"
    path.write_text("1\n00:00:06,000 --> 00:00:08,000\nThe card has a colour that everybody likes.\n")
    return {"path": str(path)}


_FIELDS = {
    "blip_itm": lambda: _model(save_blip),
    "callable": lambda: {"function": "specs:by_length"},
    "languagebind": lambda: _model(save_languagebind),
    "precomputed": _scores,
    "subtitles": _said,
}
