"""Tests of the selection of regions."""

from __future__ import annotations

import pytest
import torch

from pipelines.detectors.bottom_up.selection import keep


@pytest.mark.parametrize(
    ("min_boxes", "max_boxes", "expected"),
    [
        (1, 6, [3, 1, 4]),  # those of at least 0.2, best first
        (4, 6, [3, 1, 4, 0]),  # at least 4
        (1, 2, [3, 1]),  # at most 2
        (2, 2, [3, 1]),
        (6, 6, [3, 1, 4, 0, 5, 2]),
    ],
)
def test_the_number_of_kept_regions(min_boxes, max_boxes, expected):
    max_conf = torch.tensor([0.19, 0.5, 0.0, 0.9, 0.2, 0.1])
    assert keep(max_conf, 0.2, min_boxes, max_boxes).tolist() == expected
