"""`x2l verify` on every family at a tiny random size, on broken folders, and on models that break the law."""

import json
import shutil
from dataclasses import replace

import pytest
from models import save, small_video, tiny_backbone, tiny_video_xl_2
from safetensors.torch import load_file, save_file
from stock_models import FAMILIES, FOLDER, QUESTION, checkpoint, tiny_network, video
from transformers import BatchFeature

from x2l import registry
from x2l.backbones.llava_onevision import LlavaOnevision
from x2l.backbones.x2l_tiny import X2LTiny
from x2l.cli import main
from x2l.errors import X2LError
from x2l.verification.footage import Frames, frames_of
from x2l.verification.stock import same_as_stock
from x2l.verification.subject import Subject, backbone_class

OTHERS = {"video_xl": tiny_backbone, "video_xl_2": tiny_video_xl_2}
CHECKS = ["weights", "tokenizer", "prompt", "vision", "chunks", "decoder", "stock model", "two levels"]
FIGURES = {"tokens": ["the whole video", "at 2x", "at 32x", "cache of the question"]}
FIGURES |= {"bytes": ["cache of the question", "index, every level"]}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return small_video(tmp_path_factory.mktemp("video"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of each family, made once."""
    made = {}

    def folder(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            checkpoint(name, made[name]) if name in FAMILIES else save(OTHERS[name](), made[name])
        return made[name]

    return folder


@pytest.fixture
def page(file, tmp_path, capsys):
    """Verifies a folder: exit code, the page as data, stdout and stderr."""

    def run(folder, *options):
        capsys.readouterr()
        where = ["--video", str(file), "--frames", "8", "--json", str(tmp_path / "page.json"), "--quiet"]
        code = main(["verify", str(folder), *where, *options])
        return code, json.loads((tmp_path / "page.json").read_text()), *capsys.readouterr()

    return run


@pytest.fixture
def broken(folders, tmp_path):
    """A copy of Qwen2.5-VL's folder that may be damaged."""
    return shutil.copytree(folders("qwen2_5_vl"), tmp_path / "broken")


def status(data: dict) -> dict[str, str]:
    return {check["name"]: check["status"] for check in data["checks"]}


def edit(path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])
def test_every_family_passes(name, folders, page):
    """By config.json alone, with all that is estimated as it is measured; text between frames within 5 %."""
    code, data, out, err = page(folders(name))
    assert (code, err) == (0, "")
    assert data["backbone"] == name and "@" in data["identity"] and data["passed"]
    assert list(status(data)) == CHECKS
    skipped = [check["reason"] for check in data["checks"] if check["status"] == "skipped"]
    assert len(skipped) <= 1 and all("torchvision" in why or "no such model" in why for why in skipped)
    for unit, names in FIGURES.items():
        figures = {figure["name"]: figure for figure in data["figures"] if figure["unit"] == unit}
        for figure in (figures[each] for each in names):
            assert figure["measured"] == pytest.approx(figure["estimated"], rel=0.05), figure
    costs = {figure["unit"]: figure["measured"] for figure in data["figures"]}
    assert costs["seconds"] > 0 and costs["tokens/s"] > 0
    assert all(f"\n{check['status']:9}{check['name']}" in out for check in data["checks"])
    assert data["versions"].keys() >= {"x2l", "torch", "transformers"} and data["video"]["num_frames"] == 8


def test_the_embedded_model_passes_on_the_video_that_is_made_for_it(capsys):
    assert main(["verify", X2LTiny.default_model, "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "as video_xl\n" in out and "16 frames of 0000.mp4, 256 x 256" in out
    assert "cache gone), answer 'night'" in out


def missing_shard(folder):
    (folder / "model.safetensors").unlink()
    tiny_network("qwen2_5_vl").save_pretrained(folder, max_shard_size="100KB")
    sorted(folder.glob("*.safetensors"))[1].unlink()


def renamed_key(folder):
    kept = load_file(folder / "model.safetensors")
    kept["model.norms.weight"] = kept.pop("model.norm.weight")
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def left_over_key(folder):
    kept = load_file(folder / "model.safetensors")
    kept["model.another.weight"] = kept["lm_head.weight"].clone()
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def wrong_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(FOLDER / "internvl" / name, folder)


def wrong_size(folder):
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", text_config=config["text_config"] | {"intermediate_size": 50})


def wrong_token(folder):
    edit(folder / "config.json", video_token_id=5)


def wrong_end(folder):
    edit(folder / "generation_config.json", eos_token_id=[1, 4])


def wrong_template(folder):
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template.replace("{{ part['text'] }}", ""))


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("damage", "check", "reason"),
    [
        (missing_shard, "weights", "model-00002-of-"),
        (renamed_key, "weights", "lacks 1 weights, such as model.language_model.norm.weight"),
        (left_over_key, "weights", "also holds 1 weights that nothing reads, such as model.language"),
        (wrong_size, "weights", "[32, 48] where its config.json says [32, 50]"),
        (truncated, "weights", "incomplete"),
        (wrong_tokenizer, "tokenizer", "does not know <|video_pad|>"),
        (wrong_token, "tokenizer", "<|video_pad|> is token 6 to the tokenizer, video_token_id in"),
        (wrong_end, "tokenizer", "ends a turn with token 2, the model stops at 1, 4"),
        (wrong_template, "prompt", "the chat template lost the question"),
    ],
)
def test_what_is_broken_is_the_line_that_fails(damage, check, reason, broken, page):
    damage(broken)
    code, data, out, err = page(broken)
    fails = {each["name"]: each["reason"] for each in data["checks"] if each["status"] == "FAIL"}
    assert code == 2 and list(fails) == [check] and reason in fails[check]
    assert f"FAIL     {check}" in out
    assert err == f"x2l: error: {broken}: 1 of {len(CHECKS)} checks fail: {check}\n"
    if check == "weights":
        assert set(status(data).values()) == {"FAIL", "skipped"} and data["identity"] is None


class Misled(LlavaOnevision):
    """The prompt says the contrary."""

    def begin(self, video=None):
        prompt = super().begin(video)
        return replace(prompt, values=-prompt.values)


class Forgetful(LlavaOnevision):
    """Chunks see the prompt and nothing else in front of them."""

    def prefill(self, chunk, memory):
        return super().prefill(chunk, self.extend(None, self.begin(chunk.video)))


class Short(LlavaOnevision):
    """A frame more than it reads is said to be."""

    def tokens_per_step(self, height, width, num_frames):
        return 1 + super().tokens_per_step(height, width, num_frames)


@pytest.mark.parametrize(
    ("family", "fails"),
    [(Misled, {"decoder"}), (Forgetful, {"chunks", "decoder"}), (Short, {"vision"})],
    ids=["misled", "forgetful", "short"],
)
def test_a_backbone_that_breaks_the_law_fails(family, fails, folders, page, monkeypatch):
    monkeypatch.setitem(registry._registered["backbone"], "wrong", family)
    code, data, _, _ = page(folders("llava_onevision"), "--backbone", "wrong")
    found = {check["name"]: check["reason"] for check in data["checks"] if check["status"] == "FAIL"}
    assert code == 2 and found.keys() == fails
    assert all("logits are off by" in why or "expected 80: 10 for every 1" in why for why in found.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_law_from_the_pixels_on(name, folders, file):
    """On what the stock processor made of noise (scripts/make_stock_fixtures.py), and on darker noise."""
    shown = Frames(frames_of(file, 6), video().frames)
    subject = Subject(folders(name), backbone_class(folders(name), None), shown, question=QUESTION)
    stored = load_file(FOLDER / name / "inputs.safetensors")
    inputs = {key: value for key, value in stored.items() if not key.startswith("longer.")}
    assert "the same 12 tokens written" in same_as_stock(BatchFeature(inputs), subject)
    darker = {key: value * 0.9 if "pixel_values" in key else value for key, value in inputs.items()}
    with pytest.raises(X2LError, match="logits are off by"):
        same_as_stock(BatchFeature(darker), subject)
    with pytest.raises(X2LError, match=r"x2l reads \d+ tokens"):
        same_as_stock(BatchFeature(inputs | {"input_ids": inputs["input_ids"] + 1}), subject)


def test_a_model_type_that_no_backbone_is_made_for_asks_for_one(broken, capsys):
    edit(broken / "config.json", model_type="qwen9_vl")
    assert main(["verify", str(broken), "--quiet"]) == 2
    assert "its model_type is 'qwen9_vl', expected --backbone with one of" in capsys.readouterr().err
