"""The contract, the registry, and what a driver may do without loading anything."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.detectors import registry
from pipelines.detectors.coco import COCO_NAMES
from pipelines.detectors.contract import Regions, check_photo, check_regions, fingerprint_of
from pipelines.detectors.embedded_config import EmbeddedConfig
from pipelines.detectors.weight_files import read_verified


@dataclasses.dataclass(frozen=True)
class Spec:
    """A detector of 8 numbers a region; what it is built from does not matter here."""

    feature_dim: int = 8
    region_range: tuple[int, int] = (36, 36)
    class_names: dict[int, str] = dataclasses.field(default_factory=lambda: {1: "one"})


SPEC = Spec()


def good() -> Regions:
    boxes = np.tile(np.array([1, 2, 30, 20], np.float32), (36, 1))
    features = np.ones((36, 8), np.float32)
    return Regions(features, boxes, np.ones(36, np.int64), np.full(36, 0.5, np.float32))


def changed(field: str, value: np.ndarray) -> Regions:
    return dataclasses.replace(good(), **{field: value})


def test_good_regions_pass():
    check_regions(good(), (20, 30), SPEC)


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
        ("classes", np.full(36, 7, np.int64), "classes: 7 has no name"),
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
def test_only_rgb_bytes_are_photos(photo):
    with pytest.raises(ValueError, match="RGB uint8"):
        check_photo(photo)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"'yolo'.*bottom_up, embedded"):
        registry.resolve("yolo")


def test_a_driver_plans_without_torch():
    code = (
        "import sys; from pipelines.detectors import registry; print(registry.resolve('embedded').fingerprint()); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == registry.resolve("embedded").fingerprint()


def test_every_setting_enters_the_fingerprint():
    plain = EmbeddedConfig()
    seen = {plain.fingerprint()}
    for field in dataclasses.fields(plain):
        value = getattr(plain, field.name)
        other = tuple(v + 1 for v in value) if isinstance(value, tuple) else value + 1
        seen.add(dataclasses.replace(plain, **{field.name: other}).fingerprint())
    assert len(seen) == 1 + len(dataclasses.fields(plain))


def test_weights_and_name_enter_the_fingerprint():
    told = [("a", {"w": "1"}), ("b", {"w": "1"}), ("a", {"w": "2"}), ("a", {"v": "1"})]
    assert len({fingerprint_of(name, weights, {}) for name, weights in told}) == len(told)
    assert fingerprint_of("a", {"x": "1", "y": "2"}, {}) == fingerprint_of("a", {"y": "2", "x": "1"}, {})


def test_a_changed_or_missing_weight_file_is_refused(tmp_path):
    path = tmp_path / "weights"
    with pytest.raises(UserError, match="missing"):
        read_verified(path, "0" * 64)
    path.write_bytes(b"other")
    with pytest.raises(UserError, match="sha256"):
        read_verified(path, "0" * 64)


def test_coco_ids_and_names():
    assert len(COCO_NAMES) == 80
    known = {1: "person", 13: "stop sign", 17: "cat", 44: "bottle", 47: "cup", 67: "dining table", 90: "toothbrush"}
    assert {id_: COCO_NAMES[id_] for id_ in known} == known
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & set(COCO_NAMES)
