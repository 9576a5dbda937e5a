"""Settings that every test shares."""

import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a model that is not there is to be missed at once
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two tests at a time on two cores; subprocesses inherit it

# What is imported and collected stays: looking through it for garbage takes a sixth of the time of the short tests.
gc.disable()

# `python -m pytest` puts the checkout ahead of what is installed; test what is installed.
_ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("equirl", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("equirl")


def pytest_collection_finish() -> None:
    """Look for garbage from here on, and only in what tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def checkout() -> Path:
    """The root of the checkout."""
    return _ROOT
