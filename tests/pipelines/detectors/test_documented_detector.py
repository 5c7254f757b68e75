"""The detector of docs/how-to/add-a-detector.md, as it stands there, meets the contract and can be carried."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.detectors import registry
from pipelines.detectors.check import contract_error
from pipelines.detectors.contract import DetectorSpec, check_regions
from pipelines.features.index import DetectorDescription
from pipelines.models.carried_code import carry_code
from pipelines.models.config import RegisterConfig
from pipelines.models.detection import StoredDetector
from pipelines.models.detector_package import detector_package
from tests.support import ROOT
from tests.test_docs import blocks

NAME = "colours:ColourGrid"
MOST_LINES = 30
"""The example has to stay short: with blank lines and imports."""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The code of the page, saved where Python finds it."""
    page = (ROOT / "docs" / "how-to" / "add-a-detector.md").read_text(encoding="utf-8")
    (text,) = [content for language, content in blocks(page) if language == "python"]
    (tmp_path / "colours.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield text
    sys.modules.pop("colours", None)


def test_it_meets_the_contract(code: str):
    assert len(code.splitlines()) <= MOST_LINES
    spec = registry.resolve(NAME, {"cell_px": 80})
    assert isinstance(spec, DetectorSpec)
    assert contract_error(spec, "cpu") == ""
    assert registry.fingerprint(NAME, spec) != registry.fingerprint(NAME, registry.resolve(NAME))
    with pytest.raises(UserError, match="has no setting 'cell'"):
        registry.resolve(NAME, {"cell": 80})


def test_a_registered_model_carries_it(code: str, tmp_path: Path):
    spec = registry.resolve(NAME)
    description = DetectorDescription(NAME, {}, spec.feature_dim, spec.region_range, spec.class_names, {})
    package = detector_package(description, spec.fingerprint(), RegisterConfig())
    carried = carry_code(tmp_path / "carried", package.modules, package.roots)
    assert "class ColourGrid" in (carried.package / "colours.py").read_text()
    assert StoredDetector.read(package.write(tmp_path / "detector")).mode == "carry"


def test_its_regions_are_the_cells(code: str):
    photo = np.zeros((150, 250, 3), np.uint8)
    photo[100:, 200:] = (255, 0, 51)
    spec = registry.resolve(NAME)
    (regions,) = spec.build("cpu")([photo])
    check_regions(regions, (150, 250), spec)
    assert regions.boxes[-1].tolist() == [200, 100, 250, 150]
    np.testing.assert_allclose(regions.features[-1], [1, 0, 0.2, 0, 0, 0], atol=1e-6)
    assert not regions.features[:-1].any()
    assert len(spec.build("cpu")([np.zeros((5000, 40, 3), np.uint8)])[0].features) == 10
