"""A tracking server that is killed during a training and returns: the run is complete, and one warning was printed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from infra.tracking import TrackingConfig, connect
from tests.support import ROOT, feature_sets
from tests.support.clusters import ENVIRONMENT, kill_tree
from tests.support.processes import DEADLINE_S, wait_during
from tests.support.servers import MlflowServer, mlflow_server

STEPS = 320
SETTINGS = [
    "--name=outage", f"--model.region_dim={feature_sets.FEATURE_DIM}", "--model.joint_dim=8", "--model.word_dim=8",
    "--train.epochs=4", "--train.num_workers=1", "--train.batch_size=4", "--train.checkpoint_every_n_steps=20",
    "--cluster.local_object_store_mb=100",
]  # fmt: skip
CURVES = {"loss", "grad_norm", "lr", "captions_per_s", "data_wait_fraction", "memory_gb", "val_rsum"} | {
    f"val_{direction}_r{k}" for direction in ("image_to_text", "text_to_image") for k in (1, 5, 10)
}


def start(server: MlflowServer, folder: Path) -> "subprocess.Popen[bytes]":
    photos = feature_sets.manifest(folder, 241)
    feature_sets.write_photos(photos)
    features = feature_sets.write_set(folder, photos)
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jobs.train",
                f"--features={features.uri}",
                f"--tracking.uri={server.uri}",
                *SETTINGS,
            ],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | ENVIRONMENT | {"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1"},
        )


@pytest.mark.long  # tests/pipelines/training/test_mlflow_callback.py has the parts
def test_an_outage_of_the_tracking_server_costs_one_warning(tmp_path: Path):
    with mlflow_server(tmp_path) as server:
        driver = start(server, tmp_path)
        try:
            wait_during(driver, tmp_path / "log", lambda: any(tmp_path.glob("build/runs/outage-*/step-*")))
            wait_during(
                driver,
                tmp_path / "log",
                lambda: any(name.startswith("system/node_0/") for name in only_run(server).data.metrics),
            )
            server.stop()
            wait_during(
                driver, tmp_path / "log", lambda: "MLflow does not take metrics" in (tmp_path / "log").read_text()
            )
            wait_during(driver, tmp_path / "log", lambda: any(tmp_path.glob("build/runs/outage-*/epoch-004-*")))
            server.start()
            driver.wait(DEADLINE_S)
        finally:
            kill_tree(driver)
        log = (tmp_path / "log").read_text()
        assert driver.returncode == 0, log
        assert log.count("MLflow does not take metrics") == 1
        check_run(server)


def only_run(server: MlflowServer) -> Any:
    tracking = connect(TrackingConfig(uri=server.uri))
    (run,) = tracking.client().search_runs([tracking.experiment_id])
    return run


def check_run(server: MlflowServer) -> None:
    client = connect(TrackingConfig(uri=server.uri)).client()
    run = only_run(server)
    run_id = run.info.run_id
    assert run.info.status == "FINISHED"
    assert [int(v.version) for v in client.search_model_versions("name = 'outage'")] == [1]
    assert run.data.metrics.keys() >= CURVES
    assert [point.step for point in client.get_metric_history(run_id, "loss")] == list(range(10, STEPS + 1, 10))
    assert [point.step for point in client.get_metric_history(run_id, "val_rsum")] == [80, 160, 240, 320]
    assert any(name.startswith("system/node_0/cpu_utilization") for name in run.data.metrics)
    root = ROOT
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True)
    assert run.data.tags["mlflow.source.git.commit"] == head.stdout.strip()
    assert {"lineage.manifest", "lineage.fingerprint", "lineage.feature_set", "feature_set_uri"} <= run.data.tags.keys()
    assert run.data.params["train.batch_size"] == "4"
    here = Path(client.download_artifacts(run_id, ""))
    assert "torch" in (here / "environment.json").read_text()
    for picture in ("curves.png", "recalls.png", "similarities.png"):
        assert min(Image.open(here / picture).size) >= 400
    page = (here / "mistakes.html").read_text()
    assert page.count("<article>") >= 1
    assert page.count("src='data:image/jpeg") == 2 * page.count("<article>")
