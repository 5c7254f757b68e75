"""Regions of a detector as the arrays of a feature set."""

import numpy as np

from pipelines.detectors.contract import Regions
from pipelines.detectors.stored_arrays import stored_arrays

REGIONS = Regions(
    np.array([[1.0, 0.1], [7e4, -1.0]], np.float32),
    np.array([[0, 0, 50, 20], [10, 5, 30, 10]], np.float32),
    np.zeros(2, np.int64),
    np.ones(2, np.float32),
)


def test_features_are_float16_and_infinite_beyond_it():
    features, boxes = stored_arrays(REGIONS, (50, 20), (50, 20))
    assert features.dtype == np.float16
    assert features.tolist() == [[1.0, float(np.float16(0.1))], [np.inf, -1.0]]
    assert boxes is REGIONS.boxes


def test_boxes_are_in_pixels_of_the_original_photo():
    _, boxes = stored_arrays(REGIONS, (50, 20), (101, 40))
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[0, 0, 101, 40], [20.2, 10, 60.6, 20]], rtol=1e-6)
    _, boxes = stored_arrays(REGIONS, (49, 19), (98, 38))  # rounding never leaves the photo
    assert boxes[0].tolist() == [0, 0, 98, 38]
