"""Shared by every test: one thread, a fixed seed, no deadlines for property tests."""

import sys
from importlib.util import find_spec
from pathlib import Path

import kvpress_stand_in
import pytest
import torch
from hypothesis import settings
from models import small_video, tiny_backbone

from x2l import registry
from x2l.video import Sampling, open_video

settings.register_profile("x2l", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("x2l")
torch.set_num_threads(1)
if find_spec("kvpress") is None:
    sys.modules["kvpress"] = kvpress_stand_in


ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def backbone():
    """A Video-XL of random weights; a file of tests may have another of this name."""
    return tiny_backbone()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A small video in chunks of two frames; a file of tests may have another of this name."""
    return open_video(small_video(tmp_path_factory.mktemp("video")), Sampling(fps=1.0))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder in which a page's relative paths exist and what it writes is thrown away."""
    for name in ("examples", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", {slot: {} for slot in registry.SLOTS})
    return tmp_path
