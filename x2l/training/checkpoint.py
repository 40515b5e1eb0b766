"""Checkpoint folders in Hugging Face's layout that are either complete or not there."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONFIG = "config.json"


def is_complete(folder: Path) -> bool:
    """Whether `save` has ended there: config.json comes last."""
    return (folder / CONFIG).is_file()


def save(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, with_vsts: bool = True
) -> None:
    """Write weights, tokenizer and configuration into `folder`, beside what else is there.

    with_vsts: False leaves out the weights that VSTs own: a plain language model behind a tower.
    """
    weights = {name: w for name, w in network.state_dict().items() if with_vsts or "beacon_" not in name}
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        network.save_pretrained(partial, state_dict=weights)
        tokenizer.save_pretrained(partial)
        for file in sorted(Path(partial).iterdir(), key=lambda file: file.name == CONFIG):
            shutil.copymode(Path(partial) / CONFIG, file)  # safetensors' are the owner's alone
            os.replace(file, folder / file.name)


def release(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, with_vsts: bool = True
) -> None:
    """Write the folder that is shipped: the weights as they were trained, rounded to fp16."""
    save(copy.deepcopy(network).half(), tokenizer, folder, with_vsts)
