"""A registered pyfunc that carries a model bundle written by version 0.2 loads and returns the recorded scores.

tests/fixtures/0.2/model holds a bundle, region features, captions, and the scores that 0.2 computed from them. These
files are never written again: later releases have to read them.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infra.registry import register
from infra.tracking import Tracking
from pipelines.models.package import BUNDLE, package_model
from tests.support import ROOT

FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "model"


@pytest.fixture
def registered(tmp_path: Path) -> Path:
    """Writes the folder that MLflow stores for a version."""
    import mlflow

    package = package_model(FIXTURE / "bundle", {"fingerprint": "made-up-0123"}, "gru", tmp_path / "code")
    mlflow.pyfunc.save_model(
        str(tmp_path / "model"),
        python_model=str(package.code),
        code_paths=[str(package.package)],
        artifacts={key: str(path) for key, path in package.artifacts.items()},
        signature=package.signature,
        pip_requirements=package.requirements,
        metadata=dict(package.metadata),
    )
    return tmp_path / "model"


def test_the_pyfunc_of_a_0_2_bundle_returns_the_recorded_scores(registered: Path):
    import mlflow

    captions = json.loads((FIXTURE / "captions.json").read_text(encoding="utf-8"))
    regions_NRF, scores_NC = np.load(FIXTURE / "regions.npy"), np.load(FIXTURE / "scores.npy")
    pairs = [(n, c) for n in range(len(regions_NRF)) for c in range(len(captions))]
    frame = pd.DataFrame(
        {
            "regions": [regions_NRF[n].astype(float).tolist() for n, _ in pairs],
            "caption": [captions[c] for _, c in pairs],
        }
    )
    model = mlflow.pyfunc.load_model(str(registered))
    np.testing.assert_allclose(model.predict(frame), scores_NC.ravel(), rtol=0, atol=1e-5)
    assert model.metadata.metadata == {"fingerprint": "made-up-0123"}


def test_registering_leaves_the_status_of_the_run_alone(tracking: Tracking, tmp_path: Path):
    """The run may belong to another driver by then."""
    package = package_model(FIXTURE / "bundle", {"fingerprint": "made-up-0123"}, "gru", tmp_path / "package")
    for status in ("RUNNING", "KILLED"):
        run_id = tracking.create_run("m", {})
        tracking.client().update_run(run_id, status=status)
        version = register(tracking, run_id, "m", package)
        assert tracking.client().get_run(run_id).info.status == status
        assert register(tracking, run_id, "m", package) == version
        assert tracking.client().get_model_version("m", str(version)).run_id == run_id


def test_the_package_holds_code_bundle_and_exact_requirements(tmp_path: Path):
    package = package_model(FIXTURE / "bundle", {}, "hf", tmp_path)
    assert package.code == tmp_path / "pyfunc.py"
    assert (package.package / "shan_model" / "bundle.py").exists()
    assert package.artifacts == {BUNDLE: FIXTURE / "bundle"}
    names = [requirement.split("==")[0] for requirement in package.requirements]
    assert names == ["mlflow", "numpy", "pandas", "safetensors", "torch", "transformers"]
    assert not any("+" in requirement for requirement in package.requirements)
