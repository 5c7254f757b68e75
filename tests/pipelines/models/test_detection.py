"""A registered model detects what the extraction stores, with the detector that it carries or refers to."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.errors import UserError
from infra.storage.base import Store
from infra.storage.open import open_store
from pipelines.datasets.decode import DecodedPhoto, decode_photo
from pipelines.datasets.manifest import Photo
from pipelines.detectors.embedded_config import EmbeddedConfig
from pipelines.extraction.detect import Detect
from pipelines.extraction.operators import Fetch, part_row
from pipelines.features.shard_plan import plan_parts
from pipelines.models.detection import FORMAT, ModelDetector, PhotoRegions, StoredDetector
from tests.pipelines.models.conftest import Plugin
from tests.support import ROOT
from tests.support.photos import Photos
from tests.support.registered import EMBEDDED, embedded_detector, imported_features

pytestmark = pytest.mark.usefixtures("one_thread", "without_cluster")


def stored_by_extraction(photos: Photos, names: list[str], store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Returns the float16 features and the boxes of these photos as the operators of an extraction compute them."""
    (part,) = plan_parts("features-test-000000-00000000", [Photo(name, name, "test", ()) for name in names], len(names))
    fetched = Fetch(str(photos.folder), store)(part_row("features-test-000000-00000000", part, {}))
    detected = Detect(EmbeddedConfig(), "cpu", 4, store)(fetched)
    features = np.frombuffer(detected["regions"], np.float16).reshape(len(names), 36, 2048)
    return features, np.frombuffer(detected["boxes"], np.float32).reshape(len(names), 36, 4)


def test_regions_are_those_of_the_extraction_bit_for_bit(real_photos: Photos, tmp_path: Path):
    names = sorted(real_photos.names())[:6]
    features, boxes = stored_by_extraction(real_photos, names, open_store(str(tmp_path / "store")))
    detector = ModelDetector(embedded_detector().write(tmp_path / "detector"), {})
    detector.require("cpu")
    photos = [decode_photo((real_photos.folder / name).read_bytes()) for name in names]
    torch.set_num_threads(2)  # as torch has in other processes
    found = detector(photos, "cpu")
    assert torch.get_num_threads() == 2
    for number, regions in enumerate(found):
        assert isinstance(regions, PhotoRegions)
        assert regions.features_RF.tobytes() == features[number].tobytes()
        assert regions.boxes_R4 is not None
        assert regions.boxes_R4.tobytes() == boxes[number].tobytes()
        assert regions.classes is not None
        assert set(regions.classes) <= set(EMBEDDED.class_names.values())


def test_a_model_of_imported_features_takes_regions_only(tmp_path: Path):
    detector = ModelDetector(imported_features().write(tmp_path / "detector"), {})
    with pytest.raises(UserError, match=r"imported features \(precomputed-0123\); give column regions instead"):
        detector.require("cpu")


def test_a_failed_photo_has_a_reason_and_others_have_regions(plugin: Plugin, tmp_path: Path):
    detector = ModelDetector(plugin.package("reference").write(tmp_path / "detector"), {})
    detector.require("cpu")
    photos = [DecodedPhoto(side, side, np.full((side, side, 3), 5, np.uint8)) for side in (12, 13, 14, 15)]
    first, second, exits, third = detector(photos, "cpu")
    assert isinstance(first, PhotoRegions)
    assert isinstance(third, PhotoRegions)
    assert second == "the detector fails (ZeroDivisionError: thirteen)"
    assert exits == "the detector fails (SystemExit: fourteen)"
    huge = DecodedPhoto(12, 12, np.full((12, 12, 3), 255, np.uint8))
    (plugin.folder / "weights.txt").write_text("1e6")
    assert detector([huge], "cpu") == ["its features are beyond float16 (65504)"]


def test_an_unresolved_reference_has_a_fix(plugin: Plugin, tmp_path: Path):
    folder = plugin.package("reference").write(tmp_path / "detector")
    weights = plugin.folder / "weights.txt"
    elsewhere = weights.rename(plugin.folder / "moved.txt")
    fix = r'point to its files with load_model\(..., model_config=\{"weights": PATH\}\), or give column regions'
    with pytest.raises(UserError, match=rf"detector striped_detector.stripes:Stripes of this model .*{fix}"):
        ModelDetector(folder, {}).require("cpu")
    ModelDetector(folder, {"weights": str(elsewhere)}).require("cpu")
    elsewhere.write_text("3.0")
    with pytest.raises(UserError, match=f"it has the fingerprint stripes-.*{fix}"):
        ModelDetector(folder, {"weights": str(elsewhere)}).require("cpu")


FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "detector"
STORED = StoredDetector(
    "bottom_up",
    "bottom_up-0123456789abcdef",
    "carry",
    {"weights": "weights-vg.pth"},
    ["weights"],
    {"0": "yolk", "1": "goggles"},
    "MIT",
)


def test_file_of_0_2_is_readable_and_stable(tmp_path: Path):
    assert StoredDetector.read(FIXTURE) == STORED
    STORED.write(tmp_path)
    assert (tmp_path / "detector.json").read_text() == (FIXTURE / "detector.json").read_text()


def test_a_file_without_a_format_is_read(tmp_path: Path):
    document = json.loads((FIXTURE / "detector.json").read_text())
    assert document["format"] == FORMAT
    (tmp_path / "detector.json").write_text(json.dumps(document | {"format": "shan-detector/2", "new": 1}))
    with pytest.raises(UserError, match=rf"format is 'shan-detector/2', but this release reads '{FORMAT}'; use the "):
        StoredDetector.read(tmp_path)
    del document["format"]
    (tmp_path / "detector.json").write_text(json.dumps(document))
    assert StoredDetector.read(tmp_path) == STORED
