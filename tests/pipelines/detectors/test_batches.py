"""Tests of batches of one size."""

import numpy as np
import torch

from pipelines.detectors.batches import detect_in_batches
from pipelines.detectors.contract import Regions


def test_images_of_one_size_form_a_batch():
    calls: list[tuple[tuple[int, ...], list[int]]] = []

    def detect(images: torch.Tensor, positions: list[int]) -> list[Regions]:
        calls.append((tuple(images.shape), positions))
        return [Regions(*[np.full(1, float(image.max()))] * 4) for image in images]

    wide = [torch.full((3, 2, 4), float(n)) for n in (0, 2, 3)]
    high = torch.full((3, 4, 2), 1.0)
    found = detect_in_batches([wide[0], high, *wide[1:]], 2, detect)
    assert [regions.features[0] for regions in found] == [0, 1, 2, 3]
    assert calls == [((2, 3, 2, 4), [0, 2]), ((1, 3, 2, 4), [3]), ((1, 3, 4, 2), [1])]
    assert detect_in_batches([], 2, detect) == []
