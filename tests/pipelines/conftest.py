"""Random bottom_up weights, rendered scenes, a single thread for detectors, and operators outside of a Ray job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from torch import Tensor

from pipelines.datasets.scenes.generate import generate
from tests.support.bottom_up_checkpoint import random_checkpoint
from tests.support.small_scenes import SMALL


@pytest.fixture(scope="session")
def bottom_up_tensors() -> dict[str, Tensor]:
    """Returns all 640 tensors, 262 MB."""
    return random_checkpoint()


@pytest.fixture(scope="session")
def bottom_up_file(bottom_up_tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Returns a checkpoint file of these tensors, removed at the end of the session."""
    path = tmp_path_factory.mktemp("bottom_up") / "vg.pth"
    torch.save(bottom_up_tensors, path)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the scenes of SMALL, which tests must not change."""
    folder = tmp_path_factory.mktemp("small")
    generate(SMALL, folder)
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Runs torch with one thread, like an actor with one CPU, so that floating-point sums are reproducible."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def without_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the test process's connection to Ray from the operators of an extraction that run in it.

    They would take it for a Ray worker, and its forked processes could neither use the connection nor leave it intact.
    """
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
