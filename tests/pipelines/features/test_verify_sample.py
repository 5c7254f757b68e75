"""One photo's members against the schema of the index: types, shapes, finite values, boxes within the photo."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.features.npy import save_npy
from pipelines.features.verify_sample import Schema, read_meta, sample_errors
from tests.support.feature_sets import DETECTOR, FEATURE_DIM, manifest, sample

NAN = float("nan")
REGIONS_F16 = np.ones((3, FEATURE_DIM), np.float16)
BOX = np.array([[0, 0, 5, 5]] * 3, np.float32)
NOTHING = np.empty((0, 4), np.float32)
PHOTO = next(manifest(Path("/")).photos())


def errors(change: dict[str, Any], schema: Schema | None = None) -> list[str]:
    """Returns the errors of a photo with some fields replaced; in `meta`, None removes a field."""
    made = sample(PHOTO)
    meta = {name: value for name, value in {**made.meta, **change.get("meta", {})}.items() if value is not None}
    made = replace(made, **{**change, "meta": meta})
    members = save_npy(made.regions_RF), save_npy(made.boxes_R4), json.dumps(meta).encode()
    return list(sample_errors(*members, schema or Schema.of(DETECTOR)))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"boxes_R4": NOTHING, "meta": {"width": None, "height": None, "classes": [], "confidences": []}},
        {"meta": {"attributes": [], "attribute_confidences": [0, 1, 0.5]}},
        {"boxes_R4": BOX * 12, "meta": {"width": None}},
    ],
)
def test_a_valid_photo_has_no_errors(change: dict[str, Any]):
    assert errors(change) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"regions_RF": REGIONS_F16 * NAN}, "regions.npy has values that are not finite"),
        ({"regions_RF": REGIONS_F16 * np.inf}, "regions.npy has values that are not finite"),
        ({"regions_RF": REGIONS_F16.astype(np.float32)}, "regions.npy is float32 (3, 8), expected float16 (R, 8)"),
        ({"regions_RF": REGIONS_F16[:, :7]}, "regions.npy has 7 numbers per region, the index has 8"),
        ({"regions_RF": REGIONS_F16[:2]}, "regions.npy has 2 regions, the index has 3 to 3"),
        ({"boxes_R4": BOX.astype(np.float64)}, "boxes.npy is float64 (3, 4), expected float32 (R, 4)"),
        ({"boxes_R4": BOX[:, :3]}, "boxes.npy is float32 (3, 3), expected float32 (R, 4)"),
        ({"boxes_R4": BOX[:2]}, "boxes.npy has 2 boxes for 3 regions"),
        ({"boxes_R4": BOX * NAN}, "boxes.npy has values that are not finite"),
        ({"boxes_R4": BOX[:, ::-1].copy()}, "boxes.npy has boxes without area"),
        ({"boxes_R4": BOX - 1}, "boxes.npy has boxes that reach outside the photo of 60 x 40"),
        ({"boxes_R4": BOX * 12}, "boxes.npy has boxes that reach outside the photo of 60 x 40"),
        ({"meta": {"captions": None}}, "json has no list of captions"),
        ({"meta": {"captions": ["a photo of 0", " "]}}, "json has no list of captions, or one of them is empty"),
        ({"meta": {"width": 0}}, "json has a width of 0"),
        ({"meta": {"classes": [1, 2]}}, "json has 2 classes for 3 regions"),
        ({"meta": {"classes": [1, 2, 99]}}, "json has classes that the index does not list, first 99"),
        ({"meta": {"classes": [1, 2, 1.5]}}, "json has no list of integers `classes`"),
        ({"meta": {"classes": None}}, "json has no list of integers `classes`"),
        ({"meta": {"confidences": [0.5, 0.5]}}, "json has 2 confidences for 3 regions"),
        ({"meta": {"confidences": [0.5, 0.5, 1.5]}}, "json has confidences outside [0, 1]"),
        ({"meta": {"confidences": [0.5, 0.5, NAN]}}, "json has confidences outside [0, 1]"),
        ({"meta": {"confidences": ["high"] * 3}}, "json has no list of numbers `confidences`"),
        ({"meta": {"attributes": [1]}}, "json has 1 attributes for 3 regions"),
        ({"meta": {"attribute_confidences": [2, 0, 0]}}, "json has attribute_confidences outside [0, 1]"),
        ({"boxes_R4": BOX - 1, "meta": {"width": None}}, "boxes.npy has boxes that reach outside the photo"),
        ({"meta": {"source": None}}, "json has no source"),
        ({"meta": {"height": 1.5}}, "json has a height of 1.5"),
        ({"meta": {"width": True}}, "json has a width of True"),
    ],
)
def test_an_invalid_value_is_named(change: dict[str, Any], error: str):
    found = errors(change)
    assert any(line.startswith(error) for line in found), found


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ((b"", save_npy(BOX), b"{}"), "regions.npy is not a readable array"),
        ((save_npy(REGIONS_F16), b"no array", b"{}"), "boxes.npy is not a readable array"),
        ((save_npy(REGIONS_F16), save_npy(BOX), b"[]"), "json is not a readable JSON object"),
        ((save_npy(REGIONS_F16), save_npy(BOX), b"[" * 99_999), "json is not a readable JSON object"),
    ],
)
def test_an_unreadable_member_is_named(members: tuple[bytes, bytes, bytes], error: str):
    assert error in list(sample_errors(*members, Schema.of(DETECTOR)))


def test_a_schema_may_allow_a_range_of_regions_and_any_id():
    schema = Schema.of(replace(DETECTOR, region_range=(1, 3), class_names={}))
    fewer = {"regions_RF": REGIONS_F16[:2], "boxes_R4": BOX[:2]}
    meta = {"classes": [7, 99], "confidences": [0, 1]}
    assert errors({**fewer, "meta": meta}, schema) == []
    assert errors({**fewer, "meta": meta}) == [
        "regions.npy has 2 regions, the index has 3 to 3",
        "json has classes that the index does not list, first 7",
    ]


@pytest.mark.parametrize(("record", "meta"), [(b'{"a": 1}', {"a": 1}), (b"[]", {}), (b"", {}), (b"\xff", {})])
def test_a_record_that_is_not_readable_is_empty(record: bytes, meta: dict[str, Any]):
    assert read_meta(record) == meta
