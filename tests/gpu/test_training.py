"""A training through Ray Train runs on the GPU."""

from dataclasses import replace

import pytest
import torch

from tests.benchmarks.gpu.ray_training import ray_training
from tests.benchmarks.gpu.sizes import FULL

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_a_training_with_use_gpu_runs_to_its_end(rows):
    try:
        measured = list(ray_training(replace(FULL, ray_photos=300), "cuda"))
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    rows += measured
    assert measured[0].ours > 0
