"""Random weights of the bottom_up detector, made once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.data.bottom_up_checkpoint import random_checkpoint


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
