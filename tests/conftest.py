"""Shared by every test: one thread, a fixed seed, no deadlines for property tests."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("x2l", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("x2l")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
