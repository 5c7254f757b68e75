"""Downloading the files of registered models, also of hostile and of foreign ones."""

from pathlib import Path

import pytest
import yaml

from infra.errors import CorruptDataError, StorageError
from infra.model_artifacts import DOWNLOADS, download_artifact, download_folder, download_model
from infra.tracking import Tracking, TrackingConfig, connect
from tests.support.faulty_proxy import CUT_BODY, faulty_proxy


def logged(tracking: Tracking, folder: Path, mlmodel: object) -> str:
    """Logs a folder with this MLmodel and a file `bundle/weights` to a new run; returns the URI of the model."""
    (folder / "bundle").mkdir(parents=True)
    (folder / "bundle" / "weights").write_text("numbers")
    (folder / "MLmodel").write_text(mlmodel if isinstance(mlmodel, str) else yaml.safe_dump(mlmodel))
    run_id = tracking.create_run("m", {})
    tracking.client().log_artifacts(run_id, str(folder), "model")
    return f"runs:/{run_id}/model"


def with_artifact(path: str, **fields: object) -> dict[str, object]:
    """Returns the content of an MLmodel whose artifact `bundle` has this path."""
    return {"flavors": {"python_function": {"artifacts": {"bundle": {"path": path}}}}, **fields}


def test_an_artifact_is_found_with_the_metadata(tracking: Tracking, tmp_path: Path):
    uri = logged(tracking, tmp_path / "model", with_artifact("bundle", metadata={"dataset": "flickr30k"}))
    with download_folder() as folder:
        model = download_model(tracking, uri, folder)
        assert (model.artifact("bundle") / "weights").read_text() == "numbers"
        assert model.metadata == {"dataset": "flickr30k"}
    assert not folder.exists()


@pytest.mark.parametrize("path", ["../bundle", "/etc", "bundle/../../x"])
def test_a_path_outside_of_the_model_is_refused(tracking: Tracking, tmp_path: Path, path: str):
    uri = logged(tracking, tmp_path / "model", with_artifact(path))
    with download_folder() as folder, pytest.raises(CorruptDataError, match=r"path traversal.*; do not use this model"):
        download_model(tracking, uri, folder).artifact("bundle")


@pytest.mark.parametrize("mlmodel", ["", "{", "- 1", {"flavors": {}}, with_artifact("bundle", flavors=[])])
def test_a_foreign_model_is_a_one_line_error(tracking: Tracking, tmp_path: Path, mlmodel: object):
    uri = logged(tracking, tmp_path / "model", mlmodel)
    with download_folder() as folder, pytest.raises(CorruptDataError, match="not a model of this project") as caught:
        download_model(tracking, uri, folder).artifact("bundle")
    assert str(caught.value).startswith(f"{uri}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_model_is_a_one_line_error(tracking: Tracking):
    for uri in ("models:/none/1", "runs:/0123/model"):
        with download_folder() as folder, pytest.raises(CorruptDataError, match=f"^{uri}: no such model at "):
            download_model(tracking, uri, folder)


def test_files_that_cannot_be_read_name_where_to_look(tracking: Tracking, tmp_path: Path):
    """A server that is unreachable may hold an intact model: the error is not that of a corrupt one."""
    tracking.client().create_registered_model("m")
    tracking.client().create_model_version("m", "mlflow-artifacts:/1/model")
    with download_folder() as folder, pytest.raises(StorageError, match=r"^models:/m/1: its files cannot be read"):
        download_model(tracking, "models:/m/1", folder)


@pytest.mark.long
def test_an_interrupted_download_is_repeated(mlflow_uri: str, tmp_path: Path):
    """MLflow itself repeats a request only until its response begins."""
    with faulty_proxy(mlflow_uri) as proxy:
        tracking = connect(TrackingConfig(uri=proxy.endpoint))
        uri = logged(tracking, tmp_path / "model", with_artifact("bundle"))
        proxy.next(CUT_BODY, DOWNLOADS - 1, "GET", "bundle/weights")
        with download_folder() as folder:
            model = download_model(tracking, uri, folder)
            assert (model.artifact("bundle") / "weights").read_text() == "numbers"
            tracking.client().create_registered_model("cut")
            run_id = uri.split("/")[1]
            source = f"{tracking.client().get_run(run_id).info.artifact_uri}/model"
            tracking.client().create_model_version("cut", source, run_id)
            for artifact, cause in (
                (f"{uri}/bundle/weights", ""),  # MLflow drops the cause
                ("models:/cut/1", "IncompleteRead"),
            ):
                proxy.next(CUT_BODY, DOWNLOADS, "GET", "bundle/weights")
                with pytest.raises(StorageError, match=rf": its files cannot be read .*{cause}.*; check where"):
                    download_artifact(tracking, artifact, folder, "reading")
        assert proxy.counts[CUT_BODY] == 3 * DOWNLOADS - 1
