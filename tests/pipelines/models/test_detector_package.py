"""What a version stores of its detector: carried or referred to, built-in or a plugin, or none."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from infra.errors import UserError
from pipelines.datasets.decode import decode_image
from pipelines.detectors import registry
from pipelines.detectors.bottom_up.config import BottomUpConfig
from pipelines.features.index import DetectorDescription
from pipelines.models.config import RegisterConfig
from pipelines.models.detection import ModelDetector, PhotoRegions, StoredDetector
from pipelines.models.detector_package import detector_package
from tests.pipelines.models.conftest import Plugin
from tests.support.registered import EMBEDDED, embedded_detector, imported_features
from tests.support.tiny_vision import write_vision_model

REFERENCE = RegisterConfig("reference")


def test_embedded_is_always_carried_with_the_code():
    by_default = embedded_detector()
    fingerprint = by_default.stored.fingerprint
    assert detector_package(EMBEDDED, fingerprint, REFERENCE) == by_default
    assert by_default.stored.mode == "carry"
    assert by_default.stored.weights_licence.startswith("Apache-2.0")
    assert by_default.modules == ("pipelines.detectors.embedded_config",)


def test_imported_features_have_no_detector(tmp_path: Path):
    package = imported_features()
    assert (package.stored.mode, package.modules) == ("none", ())
    assert StoredDetector.read(package.write(tmp_path / "detector")) == package.stored


def test_weights_are_copied_or_referred_to(tmp_path: Path):
    weights = tmp_path / "vg.pth"
    weights.write_bytes(b"weights")
    spec = BottomUpConfig(str(weights))
    description = DetectorDescription(
        "bottom_up", {"weights": str(weights)}, spec.feature_dim, spec.region_range, spec.class_names, {}
    )
    carried = detector_package(description, spec.fingerprint(), RegisterConfig())
    folder = carried.write(tmp_path / "carried")
    assert (folder / "weights-vg.pth").read_bytes() == b"weights"
    stored = StoredDetector.read(folder)
    assert (stored.mode, stored.settings, stored.files) == ("carry", {"weights": "weights-vg.pth"}, ["weights"])
    referred = detector_package(description, spec.fingerprint(), REFERENCE)
    folder = referred.write(tmp_path / "referred")
    assert [path.name for path in folder.iterdir()] == ["detector.json"]
    assert StoredDetector.read(folder).settings == {"weights": str(weights)}
    assert referred.modules == carried.modules == ("pipelines.detectors.bottom_up.config",)
    with pytest.raises(UserError, match=r"has the fingerprint bottom_up-.* here, and the features have other-1"):
        detector_package(description, "other-1", RegisterConfig())
    weights.unlink()
    with pytest.raises(UserError, match=r"cannot carry its detector: .*vg.pth cannot be read.*detector to reference"):
        detector_package(description, spec.fingerprint(), RegisterConfig())
    assert detector_package(description, spec.fingerprint(), REFERENCE).stored.files == ["weights"]


@pytest.mark.parametrize(
    ("licence", "found"), [("terms " * 40, "240 characters"), (None, "the type NoneType"), ("MIT\n  licence", "")]
)
def test_a_licence_is_one_short_line(plugin: Plugin, monkeypatch: pytest.MonkeyPatch, licence: object, found: str):
    spec = registry.resolve(plugin.description.name, plugin.description.settings)
    monkeypatch.setattr(type(spec), "weights_licence", licence, raising=False)
    if not found:
        assert plugin.package("carry").tags["detector.licence"] == "MIT licence"
        return
    with pytest.raises(UserError, match=f"^weights_licence of detector .* has {found}; give the name or the URL"):
        plugin.package("carry")


def test_a_folder_is_copied_or_referred_to(tmp_path: Path):
    """The version has the files that the detector reads, and the copy has the fingerprint of the original."""
    model = write_vision_model(tmp_path / "tiny-vit", "vit")
    (model / "pytorch_model.bin").write_bytes(b"a pickle")
    settings = {"model": str(model), "grid": 2}
    spec = registry.resolve("huggingface_patches", settings)
    description = DetectorDescription(
        "huggingface_patches", settings, spec.feature_dim, spec.region_range, spec.class_names, {}
    )
    folder = detector_package(description, spec.fingerprint(), RegisterConfig()).write(tmp_path / "carried")
    names = {"config.json", "preprocessor_config.json", "model.safetensors"}
    assert {path.name for path in (folder / "model-tiny-vit").iterdir()} == names
    referred = detector_package(description, spec.fingerprint(), REFERENCE)
    assert StoredDetector.read(referred.write(tmp_path / "referred")).settings == settings
    model.rename(tmp_path / "moved")
    detector = ModelDetector(folder, {})
    detector.require("cpu")
    (found,) = detector([decode_image(Image.new("RGB", (40, 30)))], "cpu")
    assert isinstance(found, PhotoRegions)
    assert found.features_RF.shape == (4, spec.feature_dim)
    with pytest.raises(
        UserError, match=r'the folder does not exist.*load_model\(\.\.\., model_config=\{"model": PATH\}\)'
    ):
        ModelDetector(tmp_path / "referred", {}).require("cpu")
    ModelDetector(tmp_path / "referred", {"model": str(tmp_path / "moved")}).require("cpu")


def test_model_carries_plugin_with_its_package(plugin: Plugin):
    package = plugin.package("carry")
    assert package.modules == ("striped_detector.stripes",)
    assert package.roots["striped_detector"] == plugin.folder
    assert plugin.package("reference").modules == ()
    names = plugin.folder / "striped_detector" / "names.py"
    names.write_text(names.read_text() + "import striped_detector\n")
    with pytest.raises(UserError, match="`import striped_detector` cannot be carried by a model; use `from"):
        plugin.package("carry")
    unknown = replace(plugin.description, name="nowhere.detector:Class")
    with pytest.raises(UserError, match=r"cannot carry its detector: .*nowhere.*set register.detector to reference"):
        detector_package(unknown, "nowhere-1", RegisterConfig())
    assert detector_package(unknown, "nowhere-1", REFERENCE).stored.mode == "reference"
