"""Tests of the numbers that detectors compute with."""

import torch

from pipelines.detectors.exact_float32 import exact_float32


def test_tf32_is_disabled_inside_and_restored_outside():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with exact_float32():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
