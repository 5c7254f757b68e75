"""Tests of loading: weights that are not finite or not complete, and models of another kind, are one-line errors."""

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from infra.errors import UserError
from pipelines.detectors import registry
from tests.pipelines.detectors.huggingface.conftest import Models
from tests.support.tiny_bert import write_tiny_bert


def build(name: str, folder: Path, **settings: object) -> None:
    registry.resolve(name, {"model": str(folder), **settings}).build("cpu")


@pytest.mark.parametrize(("name", "family"), [("huggingface", "detr"), ("huggingface_patches", "vit")])
def test_weights_must_be_finite_and_complete(models: Models, tmp_path: Path, name: str, family: str):
    folder = Path(shutil.copytree(models(family), tmp_path / family))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    key = next(key for key in weights if key.endswith("bias") and weights[key].is_floating_point())
    broken = weights | {key: torch.full_like(weights[key], torch.nan)}
    safetensors.torch.save_file(broken, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"numbers of the weights .* are NaN or infinite\); give another model"):
        build(name, folder, **({"max_boxes": 10, "min_boxes": 10} if name == "huggingface" else {}))
    del weights[key]
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 weight tensors are missing, the first is .*bias"):
        build(name, folder)


def test_an_invalid_safetensors_file_is_one_line(models: Models, tmp_path: Path):
    folder = Path(shutil.copytree(models("vit"), tmp_path / "vit"))
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot be used by the detector huggingface_patches") as raised:
        build("huggingface_patches", folder)
    assert "\n" not in str(raised.value)


def test_models_of_another_kind_are_refused(models: Models, tmp_path: Path):
    with pytest.raises(UserError, match="cannot be used by the detector huggingface "):
        build("huggingface", models("vit"))
    bert = write_tiny_bert(tmp_path / "bert")
    shutil.copyfile(models("vit") / "preprocessor_config.json", bert / "preprocessor_config.json")
    with pytest.raises(UserError, match="it does not map photos to patches"):
        build("huggingface_patches", bert)
