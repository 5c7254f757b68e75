"""Tests of the COCO category names."""

from pipelines.detectors.coco import COCO_NAMES


def test_coco_ids_and_names():
    assert len(COCO_NAMES) == 80
    known = {1: "person", 13: "stop sign", 17: "cat", 44: "bottle", 47: "cup", 67: "dining table", 90: "toothbrush"}
    assert {id_: COCO_NAMES[id_] for id_ in known} == known
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & set(COCO_NAMES)
