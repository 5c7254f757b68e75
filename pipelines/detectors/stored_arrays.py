"""Converts detected regions to the arrays of a feature set. The extraction and registered models share it."""

import numpy as np
from numpy.typing import NDArray

from pipelines.detectors.contract import Regions


def stored_arrays(
    regions: Regions, shown: tuple[int, int], original: tuple[int, int]
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Returns features as float16 and boxes in pixels of the original photo.

    `shown` and `original` are width and height of the photo that the detector was given, and of the original. Features
    beyond float16 (65504) become infinite, which the caller has to reject.
    """
    with np.errstate(over="ignore"):
        return regions.features.astype(np.float16), _scale_boxes(regions.boxes, shown, original)


def _scale_boxes(
    boxes_R4: NDArray[np.float32], shown: tuple[int, int], original: tuple[int, int]
) -> NDArray[np.float32]:
    if shown == original:
        return boxes_R4
    scaled = boxes_R4.astype(np.float64) / (shown * 2) * (original * 2)
    return np.minimum(scaled, original * 2).astype(np.float32)
