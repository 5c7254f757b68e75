"""Runs detectors on batches of photos of one size, because padding would change the regions of a photo."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipelines.detectors.contract import Regions


def detect_in_batches(
    images_3HW: Sequence[Tensor], batch_size: int, detect: Callable[[Tensor, list[int]], list[Regions]]
) -> list[Regions]:
    """Returns the regions of each image, in order.

    `detect` is called with at most `batch_size` images of one size, stacked to (B, 3, H, W), and their positions.
    """
    found: dict[int, Regions] = {}
    for positions in _batches(images_3HW, batch_size):
        stacked = torch.stack([images_3HW[position] for position in positions])
        found.update(zip(positions, detect(stacked, positions), strict=True))
    return [found[position] for position in range(len(images_3HW))]


def _batches(images_3HW: Sequence[Tensor], batch_size: int) -> list[list[int]]:
    of_size: defaultdict[torch.Size, list[int]] = defaultdict(list)
    for position, image in enumerate(images_3HW):
        of_size[image.shape].append(position)
    return [
        positions[start : start + batch_size]
        for positions in of_size.values()
        for start in range(0, len(positions), batch_size)
    ]
