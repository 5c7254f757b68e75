"""Tests of the bottom_up detector with random weights of the full layout, on a real photo and degenerate ones.

Most tests use small photos and few proposals, because a photo at the default size costs about 2 TFLOP; one long test
runs the defaults.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import skimage.data
import torch

from pipelines.detectors.bottom_up.config import BottomUpConfig
from pipelines.detectors.bottom_up.detector import BottomUp
from pipelines.detectors.contract import Regions, check_regions

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
FIELDS = [field.name for field in dataclasses.fields(Regions)]


@pytest.fixture(scope="module")
def small(bottom_up_file) -> BottomUpConfig:
    sizes = {"shortest_side": 160, "longest_side": 300, "proposals": 16}
    return BottomUpConfig(str(bottom_up_file), min_boxes=8, max_boxes=8, **sizes)


@pytest.fixture(scope="module")
def detector(small) -> BottomUp:
    return BottomUp(small)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return skimage.data.chelsea()


@pytest.fixture(scope="module")
def found(detector, photo) -> Regions:
    return detector([photo])[0]


def with_settings(detector: BottomUp, **settings) -> BottomUp:
    """Returns a detector with the same loaded network and other settings."""
    other = object.__new__(BottomUp)
    other.__dict__ = detector.__dict__ | {"config": dataclasses.replace(detector.config, **settings)}
    return other


def test_regions_conform_to_the_contract_and_have_attributes(small, photo, found):
    check_regions(found, photo.shape[:2], small)
    assert found.attributes is not None
    assert set(found.classes.tolist()) <= set(small.class_names)
    assert set(found.attributes.tolist()) <= set(small.attribute_names)
    assert (found.features >= 0).all()
    assert found.features.std(axis=0).mean() > 0.1, "regions differ"
    assert found.confidences.max() - found.confidences.min() > 0.1, "scores differ"


@pytest.mark.parametrize("device", DEVICES)
def test_results_do_not_depend_on_the_batch_or_the_loading(small, photo, found, device):
    again = BottomUp(small, device)([photo[:40, :50], photo])[1]
    for field in FIELDS:
        one, two = getattr(again, field), getattr(found, field)
        if device == "cpu":
            assert one.tobytes() == two.tobytes()
        else:
            np.testing.assert_allclose(one, two, atol=0.05 if field == "boxes" else 1e-2, rtol=1e-3)


def test_batches_equal_single_photos(small, photo):
    """Photos of two sizes, on the CPU; float sums of a batch may differ in the last bits and swap two near ties."""
    built = BottomUp(small)
    given = [photo, photo[:90, :120], photo[:, ::-1].copy()]
    single = built(given)
    built.batch_size = 3
    for one, other in zip(single, built(given), strict=True):
        for row in range(len(one.boxes)):
            nearest = int(np.abs(other.boxes - one.boxes[row]).max(axis=1).argmin())
            np.testing.assert_allclose(other.boxes[nearest], one.boxes[row], atol=0.05)
            scale = np.abs(one.features).max()
            np.testing.assert_allclose(other.features[nearest], one.features[row], atol=1e-3 * scale)
            assert other.classes[nearest] == one.classes[row]


def test_the_adaptive_number_of_regions_depends_on_the_score(detector, photo, found):
    # Every score reaches 0, none reaches 1: the two ends of the range.
    for score, count in ((0.0, 14), (1.0, 5)):
        other = with_settings(detector, keep_score=score, min_boxes=5, max_boxes=14)
        regions = other([photo])[0]
        check_regions(regions, photo.shape[:2], other.config)
        assert len(regions.features) == count
        shared = min(count, 8)
        np.testing.assert_array_equal(regions.boxes[:shared], found.boxes[:shared])


def test_regression_changes_boxes_but_not_features(detector, photo, found):
    other = with_settings(detector, box_rule="regressed", min_boxes=16, max_boxes=16)
    regions = other([photo])[0]
    check_regions(regions, photo.shape[:2], other.config)
    every = with_settings(detector, min_boxes=16, max_boxes=16)([photo])[0]
    pairs = [int(np.abs(every.features - feature).sum(axis=1).argmin()) for feature in regions.features]
    assert sorted(pairs) == list(range(16))
    np.testing.assert_array_equal(regions.features, every.features[pairs])
    np.testing.assert_array_equal(regions.classes, every.classes[pairs])
    # Deltas are relative to the box, so the refinement can be computed in pixels of the photo.
    classes = torch.from_numpy(regions.classes)
    deltas = detector.predictor.box_deltas(torch.from_numpy(regions.features), classes).numpy()
    low, high = np.split(every.boxes[pairs], 2, axis=1)
    centre = (low + high) / 2 + deltas[:, :2] / 10 * (high - low)
    half = (high - low) / 2 * np.exp(deltas[:, 2:] / 5)
    expected = np.clip(np.hstack([centre - half, centre + half]), 0, [451, 300, 451, 300])
    np.testing.assert_allclose(regions.boxes, expected, atol=0.1)
    assert np.abs(regions.boxes - every.boxes[pairs]).max() > 5


@pytest.mark.long
def test_bf16_is_close_and_returns_float32(small, photo, found):
    config = dataclasses.replace(small, precision="bf16", min_boxes=16, max_boxes=16)
    regions = BottomUp(config)([photo])[0]
    check_regions(regions, photo.shape[:2], config)
    # Near ties of proposals may resolve differently, so each fp32 region is compared with all bf16 regions.
    unit, other = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (found.features, regions.features))
    assert np.median((unit @ other.T).max(axis=1)) > 0.99


NARROW = {
    "one pixel": np.full((1, 1, 3), 200, np.uint8),
    "one row": np.arange(3 * 700, dtype=np.uint16).astype(np.uint8).reshape(1, 700, 3),
    "one column": np.zeros((90_000, 1, 3), np.uint8),
    "huge": np.broadcast_to(np.uint8(9), (12_000, 16_000, 3)),
}


@pytest.mark.parametrize("kind", NARROW)
def test_the_number_of_regions_on_degenerate_photos(detector, kind):
    regions = detector([NARROW[kind]])[0]
    check_regions(regions, NARROW[kind].shape[:2], detector.config)


def test_no_photos_no_regions_and_no_gray(detector, photo):
    assert detector([]) == []
    with pytest.raises(ValueError, match="RGB uint8"):
        detector([photo[..., 0]])


def test_boxes_are_scaled_to_the_original_photo(detector, photo):
    boxes = torch.tensor([[0.0, 0, 240, 160], [120, 80, 120, 80], [240, 160, 240, 160]])
    full, point, corner = detector._in_photo(boxes, (160, 240), photo).tolist()
    assert full == [0, 0, 451, 300]
    assert point == [225.5, 150, 225.5 + 1 / 16, 150 + 1 / 16], "a box without area is widened"
    assert corner == [451 - 1 / 16, 300 - 1 / 16, 451, 300]


@pytest.mark.long
@pytest.mark.parametrize("device", DEVICES)
def test_the_default_settings_give_36_regions(bottom_up_file, photo, device):
    spec = BottomUpConfig(str(bottom_up_file))
    regions = spec.build(device)([photo])[0]
    check_regions(regions, photo.shape[:2], spec)
    assert regions.features.shape == (36, 2048)
