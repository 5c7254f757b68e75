"""Tests of the embedded detector on real photos (from the scikit-image wheel) and degenerate ones."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from pipelines.detectors import registry
from pipelines.detectors.contract import Regions, check_regions
from pipelines.detectors.embedded import Embedded

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def detector() -> Embedded:
    built = registry.resolve("embedded").build("cpu")
    assert isinstance(built, Embedded)
    return built


@pytest.fixture(scope="module")
def photos() -> dict[str, np.ndarray]:
    return {name: getattr(skimage.data, name)() for name in ("chelsea", "coffee", "astronaut")}


@pytest.fixture(scope="module")
def found(detector, photos) -> dict[str, Regions]:
    return dict(zip(photos, detector(list(photos.values())), strict=True))


def best(detector: Embedded, regions: Regions, name: str) -> int:
    """Returns the row of the most confident region of a class."""
    of_class = [r for r in range(36) if detector.config.class_names[int(regions.classes[r])] == name]
    assert of_class, f"no region is a {name}"
    return max(of_class, key=lambda r: regions.confidences[r])


# Scores of the original graph (fp32 weights) in the original runtime on the same photos, best anchor of the class.
# fp16 changes them by 0.002. Boxes were drawn by hand.
SEEN = [
    ("chelsea", "cat", 0.9345, (0, 0, 405, 300)),
    ("coffee", "cup", 0.9613, (172, 18, 412, 310)),
    ("coffee", "dining table", 0.8242, (0, 0, 600, 400)),
    ("astronaut", "person", 0.6855, (35, 12, 368, 512)),
]


@pytest.mark.parametrize(("photo", "name", "score", "seen"), SEEN)
def test_detections_match_the_original_runtime(detector, found, photo, name, score, seen):
    regions = found[photo]
    row = best(detector, regions, name)
    assert regions.confidences[row] == pytest.approx(score, abs=0.006)
    x0, y0, x1, y1 = regions.boxes[row].tolist()
    width, height = min(x1, seen[2]) - max(x0, seen[0]), min(y1, seen[3]) - max(y0, seen[1])
    union = (x1 - x0) * (y1 - y0) + (seen[2] - seen[0]) * (seen[3] - seen[1]) - width * height
    assert width > 0
    assert height > 0
    assert width * height / union > 0.75


def test_boxes_are_mirrored_with_the_photo(detector, photos):
    # Directional expectation: the mirrored cat is on the other side.
    mirrored = np.ascontiguousarray(photos["chelsea"][:, ::-1])
    regions = detector([mirrored])[0]
    x0, _, x1, _ = regions.boxes[best(detector, regions, "cat")].tolist()
    assert x1 > 445
    assert x0 > 35


def test_features_of_the_same_object_are_more_similar(detector, photos, found):
    # The cup in the photo and in the photo at half its size are the same object; cup and cat are not.
    half = np.ascontiguousarray(photos["coffee"][::2, ::2])
    regions = detector([half])[0]
    cup = found["coffee"].features[best(detector, found["coffee"], "cup")]
    same = regions.features[best(detector, regions, "cup")]
    cat = found["chelsea"].features[best(detector, found["chelsea"], "cat")]
    assert cup @ same > cup @ cat + 0.3


def test_contract_on_real_photos(detector, photos, found):
    for name, regions in found.items():
        check_regions(regions, photos[name].shape[:2], detector.config)
        assert set(regions.classes.tolist()) <= set(detector.config.class_names)
        assert (np.diff(regions.confidences) <= 0).all(), "36 boxes survive, so they are in order of score"


def test_each_part_of_a_feature_has_norm_1(detector, found):
    parts = np.split(found["coffee"].features, np.cumsum(detector.config.feature_parts)[:-1], axis=1)
    assert [part.shape[1] for part in parts] == [1280, 192, 576]
    for part in parts:
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, atol=1e-5)


DEGENERATE = {
    "one pixel": np.full((1, 1, 3), 200, np.uint8),
    "one row": np.arange(3 * 70, dtype=np.uint8).reshape(1, 70, 3),
    "very wide": np.random.default_rng(0).integers(0, 256, (50, 2000, 3), dtype=np.uint8),
    "very tall": np.random.default_rng(1).integers(0, 256, (2000, 50, 3), dtype=np.uint8),
    "black": np.zeros((120, 90, 3), np.uint8),
    "white": np.full((480, 640, 3), 255, np.uint8),
}


@pytest.mark.parametrize("kind", DEGENERATE)
def test_contract_on_degenerate_photos(detector, kind):
    photo = DEGENERATE[kind]
    regions = detector([photo])[0]
    check_regions(regions, photo.shape[:2], detector.config)
    np.testing.assert_allclose(np.linalg.norm(regions.features, axis=1), 3**0.5, atol=1e-4)


def test_results_are_deterministic(detector, photos, found):
    again = detector([photos["coffee"]])[0]
    for field in ("features", "boxes", "classes", "confidences"):
        assert getattr(again, field).tobytes() == getattr(found["coffee"], field).tobytes()


def test_results_do_not_depend_on_the_batch(detector, photos, found):
    # Batches, which GPUs use, must give the results of single photos.
    together = Embedded(detector.config)
    together.chunk_size = 3
    for name, regions in zip(photos, together(list(photos.values())), strict=True):
        np.testing.assert_array_equal(regions.classes, found[name].classes)
        np.testing.assert_allclose(regions.boxes, found[name].boxes, atol=0.02)
        np.testing.assert_allclose(regions.features, found[name].features, atol=2e-4)


def test_read_only_and_strided_photos_are_accepted(detector, photos):
    photo = photos["coffee"][::4, ::-4]
    contiguous = np.ascontiguousarray(photo)
    photo.flags.writeable = False
    np.testing.assert_array_equal(detector([photo])[0].features, detector([contiguous])[0].features)


def test_an_empty_batch_and_a_grey_photo(detector, photos):
    assert detector([]) == []
    with pytest.raises(ValueError, match="RGB uint8"):
        detector([photos["coffee"][..., 0]])


def test_the_built_detector_has_the_config_of_the_registry(detector):
    assert detector.config == registry.resolve("embedded")
    assert detector.config.feature_dim == sum(detector.config.feature_parts)


# The three strongest channels of each part of the cat's feature.
CAT_FEATURE = {
    1132: 0.28554,
    1214: 0.22648,
    221: 0.20158,
    1366: 0.26968,
    1369: 0.23793,
    1375: 0.22851,
    1852: 0.17681,
    2026: 0.15793,
    1893: 0.15255,
}


def test_features_change_only_with_the_fingerprint(detector, found):
    # After an intended change: raise EmbeddedConfig.revision, then update fingerprint and features here.
    assert detector.config.fingerprint() == "embedded-9b827f5a0ef18e99"
    row = found["chelsea"].features[best(detector, found["chelsea"], "cat")]
    np.testing.assert_allclose(row[list(CAT_FEATURE)], list(CAT_FEATURE.values()), atol=2e-4)
