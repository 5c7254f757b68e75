"""Made once for many tests: random weights of bottom_up, a few rendered scenes; and one thread for detectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.datasets.scenes.generate import generate
from tests.support.bottom_up_checkpoint import random_checkpoint
from tests.support.small_scenes import SMALL


@pytest.fixture(scope="session")
def bottom_up_tensors() -> dict[str, Tensor]:
    """All 640 tensors, 262 MB."""
    return random_checkpoint()


@pytest.fixture(scope="session")
def bottom_up_file(bottom_up_tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """They as a checkpoint file, gone with the session."""
    path = tmp_path_factory.mktemp("bottom_up") / "vg.pth"
    torch.save(bottom_up_tensors, path)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the scenes of SMALL, which tests only read."""
    folder = tmp_path_factory.mktemp("small")
    generate(SMALL, folder)
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Detectors as an actor with one CPU runs them: sums of floats are then the same each time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
