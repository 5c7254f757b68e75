"""Tests of the settings: fingerprint, width and labels without weights, and files that change after planning."""

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.detectors import registry
from pipelines.detectors.contract import DetectorSpec
from pipelines.detectors.huggingface.config import PatchesConfig, QueriesConfig
from tests.pipelines.detectors.huggingface.conftest import Models
from tests.support.tiny_vision import BACKBONES, DETECTORS, LABELS, MAP, WIDTH, write_vision_model


@pytest.mark.parametrize("family", [*DETECTORS, *BACKBONES])
def test_the_registry_resolves_both_to_valid_specs(models: Models, family: str):
    name = "huggingface" if family in DETECTORS else "huggingface_patches"
    spec = registry.resolve(name, {"model": str(models(family))})
    assert isinstance(spec, DetectorSpec)
    assert spec.feature_dim == (MAP if family == "resnet" else WIDTH)
    assert spec.region_range == (36, 36)
    assert spec.class_names == (LABELS if name == "huggingface" else {0: "patch"})
    assert registry.fingerprint(name, spec).startswith(f"{name}-")


def test_a_driver_plans_without_loading_weights(models: Models, tmp_path: Path):
    folder = Path(shutil.copytree(models("detr"), tmp_path / "detr"))
    (folder / "model.safetensors").write_bytes(b"not weights")
    spec = QueriesConfig(str(folder))
    assert (spec.feature_dim, spec.class_names) == (WIDTH, LABELS)
    assert spec.fingerprint() != QueriesConfig(str(models("detr"))).fingerprint()


def test_settings_and_files_enter_the_fingerprint(models: Models, tmp_path: Path):
    folder = tmp_path / "elsewhere"
    shutil.copytree(models("detr"), folder)
    spec = QueriesConfig(str(folder))
    assert spec.fingerprint() == QueriesConfig(str(models("detr"))).fingerprint()
    changes = {"min_boxes": 5, "max_boxes": 40, "keep_score": 0.1, "nms_iou": 0.5, "backbone_map": True, "revision": 2}
    assert changes.keys() == {field.name for field in dataclasses.fields(spec)} - {"model"}
    prints = {dataclasses.replace(spec, **{name: value}).fingerprint() for name, value in changes.items()}
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_text((folder / name).read_text() + "\n")
        prints.add(QueriesConfig(str(folder)).fingerprint())
    write_vision_model(folder, "detr", seed=1)
    prints.add(QueriesConfig(str(folder)).fingerprint())
    assert len(prints | {spec.fingerprint()}) == len(changes) + 4
    assert PatchesConfig(str(models("vit"))).fingerprint() != PatchesConfig(str(models("vit")), grid=5).fingerprint()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("huggingface", {"min_boxes": 0}, "min_boxes"),
        ("huggingface", {"min_boxes": 9, "max_boxes": 8}, "max_boxes"),
        ("huggingface", {"keep_score": 2}, "keep_score"),
        ("huggingface", {"nms_iou": -1}, "nms_iou"),
        ("huggingface_patches", {"grid": 0}, "grid"),
        ("huggingface_patches", {"model": "org/name"}, "nor a hub name with a revision"),
    ],
)
def test_invalid_settings_are_named(models: Models, name: str, settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        registry.resolve(name, {"model": str(models("vit"))} | settings)


def test_workers_refuse_files_that_changed_since_the_plan(models: Models, tmp_path: Path):
    folder = Path(shutil.copytree(models("vit"), tmp_path / "vit"))
    spec = PatchesConfig(str(folder))
    spec.fingerprint()
    worker = pickle.loads(pickle.dumps(spec))  # noqa: S301 - as Ray does
    assert worker.verified_folder() == folder
    write_vision_model(folder, "vit", seed=1)
    with pytest.raises(UserError, match=r"model\.safetensors is not the file that this extraction was planned with"):
        worker.verified_folder()


def test_the_width_with_the_backbones_map_needs_no_weights(models: Models, tmp_path: Path):
    for family in ("detr", "deformable_detr", "rt_detr"):
        assert QueriesConfig(str(models(family)), backbone_map=True).feature_dim == WIDTH + MAP
    with pytest.raises(UserError, match="it has no convolutional backbone; leave backbone_map"):
        _ = QueriesConfig(str(models("yolos")), backbone_map=True).feature_dim


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "nothing"}', '{"model_type": "detr", "d_model": "wide"}'])
def test_an_invalid_model_config_is_one_line(models: Models, tmp_path: Path, text: str):
    folder = Path(shutil.copytree(models("detr"), tmp_path / "detr"))
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=f"model {folder} cannot be used by the detector huggingface") as raised:
        registry.resolve("huggingface", {"model": str(folder)})
    assert "\n" not in str(raised.value)


def test_code_of_a_model_is_not_run(models: Models, tmp_path: Path):
    """A model type that the library does not have, with code of its own beside the weights."""
    folder = Path(shutil.copytree(models("detr"), tmp_path / "detr"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForObjectDetection": "mine.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('the code ran')")
    with pytest.raises(UserError, match="cannot be used by the detector huggingface"):
        registry.resolve("huggingface", {"model": str(folder)})
