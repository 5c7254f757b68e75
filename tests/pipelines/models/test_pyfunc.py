"""Registered models as MLflow loads them; one with a bundle of version 0.2 returns the recorded scores."""

import base64
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.features.npy import save_npy
from pipelines.models.digests import bundle_digest, code_digest, detector_digest, requirements_digest
from tests.pipelines.models.conftest import FIXTURE, Plugin
from tests.support.registered import save_version, tiny_network


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
        "bundle.sha256": bundle_digest(FIXTURE / "bundle"),
        "code.sha256": code_digest(registered / "pyfunc.py", *(registered / "code").iterdir()),
        "detector.sha256": detector_digest(registered / "artifacts" / "detector"),
        "requirements.sha256": requirements_digest((registered / "requirements.txt").read_text().splitlines()),
    }


def test_columns_without_text_get_as_far_as_the_request(registered: Path):
    """MLflow checks types against the signature first, and would not name the row."""
    import mlflow

    model, regions = mlflow.pyfunc.load_model(str(registered)), list(np.load(FIXTURE / "regions.npy")[:2])
    assert model.predict(pd.DataFrame({"regions": [], "caption": []})) == []
    for misnamed in (pd.DataFrame({"Regions": regions, "Caption": "a dog"}), np.zeros((2, 8)), ["a dog"]):
        with pytest.raises(mlflow.exceptions.MlflowException, match="the input has no column image, regions or cap"):
            model.predict(misnamed)
    with pytest.raises(mlflow.exceptions.MlflowException, match="row 0, column caption: is int; give text"):
        model.predict(pd.DataFrame({"regions": regions, "caption": [5, 6]}))
    encoded = model.predict(pd.DataFrame({"regions": regions, "caption": np.nan}), params={"task": "encode"})
    assert encoded.word_vectors.tolist() == [None, None]


def test_mlflow_drops_unknown_params_with_a_warning(registered: Path, capfd: pytest.CaptureFixture[str]):
    """The model never sees them. Where a caller bypasses MLflow's check, they are an error."""
    import mlflow

    model = mlflow.pyfunc.load_model(str(registered))
    frame = pd.DataFrame({"regions": list(np.load(FIXTURE / "regions.npy")[:1]), "caption": ["a dog"]})
    assert model.predict(frame, params={"topk": 1}) == model.predict(frame)
    assert "Unrecognized params ['topk'] are ignored" in capfd.readouterr().err
    with pytest.raises(mlflow.exceptions.MlflowException, match="params: topk is unknown; choose from: task, query"):
        model.unwrap_python_model().predict(None, frame, {"topk": 1})


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
