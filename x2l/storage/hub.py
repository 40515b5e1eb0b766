"""Checkpoint folders, on this machine or from the hub: safetensors and JSON, never pickles or code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from x2l.errors import X2LError

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""Files that are fetched of a model on the hub."""

_SETTINGS = {
    "image": (("preprocessor_config.json", None), ("processor_config.json", "image_processor")),
    "video": (
        ("processor_config.json", "video_processor"),
        ("video_preprocessor_config.json", None),
        ("preprocessor_config.json", None),
    ),
}
"""Places of a processor's settings: files, or a part of one, in order of preference."""


def checkpoint_folder(model: str, field: str) -> Path:
    """A folder as it is, or the snapshot of a model on the hub.

    Raises X2LError naming `field`, the option that gave the model, if there is neither.
    """
    if os.path.isdir(model):
        return Path(model)
    try:
        return Path(snapshot_download(model, allow_patterns=HUB_FILES))
    except Exception as error:  # whatever the hub's client and its HTTP library raise
        raise X2LError(
            f"{field}: {model!r} is neither a checkpoint folder nor a model on the hub, {one_line(error)}"
        ) from error


def processor_settings(folder: Path, kind: str) -> dict[str, Any]:
    """Settings of a checkpoint's "image" or "video" processor; empty where it does not say."""
    for name, part in _SETTINGS[kind]:
        if (folder / name).is_file():
            stored = json.loads((folder / name).read_text(encoding="utf-8"))
            if settings := stored if part is None else stored.get(part):
                return settings
    return {}


def one_line(error: Exception) -> str:
    """Another library's error, fit for the end of a message."""
    return " ".join(str(error).split())[:200]
