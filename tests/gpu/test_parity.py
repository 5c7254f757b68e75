"""What a GPU computes is what a CPU computes, within the tolerances of `tests/benchmarks/gpu/parity.py`."""

from dataclasses import replace

import pytest
import torch

from tests.benchmarks.gpu.parity import CHECKS
from tests.benchmarks.gpu.sizes import FULL

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

SIZES = replace(FULL, bottom_up_photos=1)
"""bottom_up takes some ten seconds for a photo on a CPU."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_gpu_agrees_with_the_cpu(check, rows):
    try:
        measured = list(check(SIZES, "cuda"))
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    rows += measured
    assert all(row.met for row in measured), measured
