"""Tests of the detector contract: validation of photos and regions, and fingerprints."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipelines.detectors.contract import Regions, check_photo, check_regions, fingerprint_of


@dataclasses.dataclass(frozen=True)
class Spec:
    """A spec with features of width 8, without a detector."""

    feature_dim: int = 8
    region_range: tuple[int, int] = (36, 36)
    class_names: dict[int, str] = dataclasses.field(default_factory=lambda: {1: "one"})


SPEC = Spec()


def valid_regions() -> Regions:
    boxes = np.tile(np.array([1, 2, 30, 20], np.float32), (36, 1))
    features = np.ones((36, 8), np.float32)
    return Regions(features, boxes, np.ones(36, np.int64), np.full(36, 0.5, np.float32))


def changed(field: str, value: np.ndarray) -> Regions:
    return dataclasses.replace(valid_regions(), **{field: value})


def test_valid_regions_pass():
    check_regions(valid_regions(), (20, 30), SPEC)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("features", np.ones((35, 8), np.float32), "features"),
        ("features", np.ones((36, 8), np.float64), "features"),
        ("features", np.full((36, 8), np.nan, np.float32), "features.*finite"),
        ("boxes", np.tile(np.array([0, 0, 31, 20], np.float32), (36, 1)), "boxes.*outside"),
        ("boxes", np.tile(np.array([-1, 0, 3, 20], np.float32), (36, 1)), "boxes.*outside"),
        ("boxes", np.tile(np.array([5, 5, 5, 9], np.float32), (36, 1)), "boxes.*area"),
        ("classes", np.ones(36, np.int32), "classes"),
        ("classes", np.full(36, 7, np.int64), "classes: id 7 has no name"),
        ("confidences", np.full(36, 1.5, np.float32), "confidences"),
    ],
)
def test_each_violation_is_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        check_regions(changed(field, value), (20, 30), SPEC)


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_only_rgb_uint8_arrays_are_photos(photo):
    with pytest.raises(ValueError, match="RGB uint8"):
        check_photo(photo)


def test_weights_and_name_enter_the_fingerprint():
    payloads = [("a", {"w": "1"}), ("b", {"w": "1"}), ("a", {"w": "2"}), ("a", {"v": "1"})]
    assert len({fingerprint_of(name, weights, {}) for name, weights in payloads}) == len(payloads)
    assert fingerprint_of("a", {"x": "1", "y": "2"}, {}) == fingerprint_of("a", {"y": "2", "x": "1"}, {})
