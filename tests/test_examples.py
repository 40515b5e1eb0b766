"""The scripts in examples/, run as `--quick` runs them."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from x2l import registry

ROOT = Path(__file__).parents[1]


@pytest.fixture
def example(monkeypatch):
    """Loads a script by its name; what it registers is forgotten."""
    monkeypatch.setattr(registry, "_registered", {slot: {} for slot in registry.SLOTS})

    def load(name: str):
        spec = spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_video_is_asked(example, capsys):
    right = example("ask_a_video").main(ROOT / "examples" / "needles.mp4", [], quick=True)
    said = capsys.readouterr().out
    assert said.startswith("5 chunks, ") and said.count("in detail: ") == 12
    assert right == said.count("\n  right") / 12 and right > 0.4


def test_an_own_oracle_finds_what_it_looks_for(example, capsys):
    recall = example("own_oracle").main(quick=True)
    assert 0.5 < recall["border"] <= 1 and 0.5 < recall["attention"] <= 1
    assert f"border     loads {recall['border']:.0%}" in capsys.readouterr().out


def test_an_ablation_tells_what_detail_is_worth(example, tmp_path):
    (_, _, gist, most), (k, others, detailed, less) = example("ablation").main(True, tmp_path)
    assert (k, others) == (3, 32)
    assert detailed > gist + 0.2 and most > less > 0.5
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")


def test_lora_changes_what_the_pipeline_answers_with(example):
    losses, module = example("lora").main(quick=True)
    assert len(losses) == 3 and all(0 < loss < 10 for loss in losses)
    learned = {name: weight for name, weight in module.network.named_parameters() if weight.requires_grad}
    assert all("lora_" in name for name in learned)
    assert all(weight.any() for name, weight in learned.items() if "lora_B" in name)  # they start at 0
