"""Tests of the bottom_up settings: validation, fingerprint, and the weights that workers read."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.detectors import registry
from pipelines.detectors.bottom_up.config import BottomUpConfig
from pipelines.detectors.contract import DetectorSpec


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "vg.pth"
    path.write_bytes(b"bytes of a checkpoint")
    return path


def test_the_registry_resolves_it_to_a_valid_spec(weights):
    spec = registry.resolve("bottom_up", {"weights": str(weights)})
    assert isinstance(spec, BottomUpConfig)
    assert isinstance(spec, DetectorSpec)
    assert (spec.feature_dim, spec.region_range) == (2048, (36, 36))
    assert len(spec.class_names) == 1600
    assert (spec.class_names[17], spec.attribute_names[3]) == ("class 17", "attribute 3")
    assert set(spec.attribute_names) == set(range(400))


def test_a_fingerprint_is_computed_without_torch(weights):
    code = (
        "import sys; from pipelines.detectors.bottom_up.config import BottomUpConfig; "
        f"print(BottomUpConfig({str(weights)!r}).fingerprint()); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == BottomUpConfig(str(weights)).fingerprint()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"min_boxes": 0}, "min_boxes"),
        ({"min_boxes": 10, "max_boxes": 9}, "max_boxes"),
        ({"max_boxes": 301}, "proposals"),
        ({"proposals": 6001}, "rpn_candidates"),
        ({"shortest_side": 15}, "shortest_side"),
        ({"shortest_side": 1200}, "longest_side"),
        ({"shortest_side": 32}, "shortest_side"),
        ({"keep_score": 1.5}, "keep_score"),
        ({"rpn_nms_iou": -0.1}, "rpn_nms_iou"),
        ({"class_nms_iou": 30}, "class_nms_iou"),
        ({"box_rule": "refined"}, "box_rule"),
        ({"precision": "fp16"}, "precision"),
        ({"weights": ""}, "weights"),
        ({"weights": None}, "weights"),
        ({"weights": "s3://vg.pth"}, "weights"),
        ({"weights": "s3://bucket/models/"}, "weights"),
        ({"attributes_file": "file://"}, "attributes_file"),
    ],
)
def test_an_invalid_setting_is_named(weights, settings, named):
    with pytest.raises((ValueError, UserError), match=named):
        BottomUpConfig(**({"weights": str(weights)} | settings))


def test_weights_are_required():
    with pytest.raises(UserError, match="weights"):
        registry.resolve("bottom_up", {})


OTHER = {"box_rule": "regressed", "precision": "bf16", "min_boxes": 10, "keep_score": 0.3}


def test_every_setting_but_no_location_enters_the_fingerprint(weights, tmp_path):
    default = BottomUpConfig(str(weights))
    names = [
        f.name for f in dataclasses.fields(default) if f.name not in ("weights", "classes_file", "attributes_file")
    ]
    seen = {default.fingerprint()}
    for name in names:
        value = getattr(default, name)
        other = OTHER.get(name, value + 0.1 if isinstance(value, float) else None) or value + 1
        seen.add(dataclasses.replace(default, **{name: other}).fingerprint())
    assert len(seen) == 1 + len(names)

    copy = tmp_path / "elsewhere" / "other.pth"
    copy.parent.mkdir()
    copy.write_bytes(weights.read_bytes())
    assert BottomUpConfig(f"file://{copy}", classes_file="names.txt").fingerprint() == default.fingerprint()
    copy.write_bytes(b"other weights")
    assert BottomUpConfig(str(copy)).fingerprint() not in seen


def test_workers_refuse_weights_that_changed_since_planning(weights, monkeypatch, tmp_path):
    monkeypatch.chdir(weights.parent)
    spec = BottomUpConfig(weights.name)
    spec.fingerprint()
    sent = pickle.dumps(spec)
    monkeypatch.chdir("/")
    received = pickle.loads(sent)  # noqa: S301 - pickled above
    assert received == spec
    assert received.read_weights() == b"bytes of a checkpoint"
    weights.write_bytes(b"bytes of another checkpoint")
    assert received.fingerprint() == spec.fingerprint()
    with pytest.raises(UserError, match="sha256"):
        received.build("cpu")


@pytest.mark.parametrize("location", ["missing.pth", "vg.pth/missing.pth", ""])
def test_a_missing_weight_file_is_named(weights, location):
    spec = BottomUpConfig(str(weights.parent / location))
    with pytest.raises(UserError, match="cannot be read"):
        spec.fingerprint()


def test_names_are_read_from_files_with_one_name_per_line(weights, tmp_path):
    classes, attributes = tmp_path / "objects_vocab.txt", tmp_path / "attributes_vocab.txt"
    classes.write_text("yolk,egg yolk\n" + "".join(f"thing {i}\n" for i in range(1, 1600)))
    attributes.write_text("red\nblue\n")
    spec = BottomUpConfig(str(weights), classes_file=str(classes), attributes_file=str(attributes))
    assert (spec.class_names[0], spec.class_names[1599]) == ("yolk", "thing 1599")
    with pytest.raises(UserError, match=r"2 lines.*400"):
        _ = spec.attribute_names
