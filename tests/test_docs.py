"""The pages in docs, followed to the letter."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stock_models import FOLDER, QUESTION, TEXT, TOWER, read_and_seen, video
from transformers import AutoTokenizer, LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration

from x2l import registry
from x2l.cli import main
from x2l.video import Sampling, open_video

EXAMPLE = Path(__file__).parents[1] / "examples" / "needles.mp4"
STOCK = FOLDER / "llava_next_video"
PAGE = Path(__file__).parents[1] / "docs" / "bring_your_own_model.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny LLaVA-NeXT-Video, with the processor's settings as the stock one saved them."""
    folder = tmp_path_factory.mktemp("llava_next_video")
    shutil.copytree(STOCK, folder, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = LlavaNextVideoConfig(
        text_config=TEXT | {"model_type": "llama", "vocab_size": len(tokenizer)},
        vision_config=TOWER | {"model_type": "clip_vision_model", "image_size": 24, "patch_size": 6},
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    torch.manual_seed(0)
    LlavaNextVideoForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "llava_next_video.py"
    path.write_text(blocks("python")[0])
    return path


@pytest.fixture(scope="module")
def backbone(checkpoint, plugin):
    registry.load_plugin(plugin)
    return registry.build("backbone", {"name": "llava_next_video", "model": str(checkpoint)})


@torch.no_grad()
def test_the_family_of_the_page_holds_the_law_of_the_page(backbone):
    sample = open_video(EXAMPLE, Sampling(num_frames=6), chunk_frames=2)
    spaces = {}
    exec(blocks("python")[1], spaces)
    whole = next(open_video(EXAMPLE, Sampling(num_frames=6), chunk_frames=6).clips())
    (block,), pixels = read_and_seen(backbone, whole)
    before, after = backbone._around_the_video(QUESTION)
    ids = backbone.encode_text(before + "<video>" * len(block.tokens) + after)[None]
    spaces["assert_identity"](backbone, sample, QUESTION, input_ids=ids, pixel_values_videos=pixels[None])


@torch.no_grad()
def test_the_family_of_the_page_sees_what_the_stock_processor_makes(backbone):
    _, seen = read_and_seen(backbone, video())
    expected = load_file(STOCK / "inputs.safetensors")["pixel_values_videos"][0]
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)


def test_the_command_of_the_page_answers(checkpoint, plugin, capsys):
    given = {"video.mp4": str(EXAMPLE), "llava_next_video.py": str(plugin)}
    given["backbone.model=llava-hf/LLaVA-NeXT-Video-7B-hf"] = f"backbone.model={checkpoint}"
    command, *arguments = shlex.split(blocks("bash")[0].replace("\\\n", " "))
    assert command == "x2l" and given.keys() <= set(arguments)
    assert main([given.get(argument, argument) for argument in arguments]) == 0
    assert "KV cache" in capsys.readouterr().out


def test_every_field_of_the_table_exists(backbone):
    names = re.findall(r"^\| `(\w+)", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(names) == 8 and all(hasattr(backbone, name) for name in names)
