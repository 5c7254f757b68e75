"""The whole line on real photos, by the user's command, and every stored result looked at from outside.

What no unit test sees: that the stages fit each other across processes, that plain webdataset and a bare MLflow can
read what was stored, and that a second run reuses it.
"""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from infra.registry import champion_version
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet, index_digest
from shan_model.bundle import load_bundle
from tests.support import ROOT
from tests.support.photos import Photos


@dataclass(frozen=True)
class Line:
    """A finished quickstart."""

    folder: Path
    output: str
    photos: Photos

    @property
    def features(self) -> FeatureSet:
        (index,) = self.folder.glob("build/features/*/index.json")
        return FeatureSet.open(str(index.parent))

    @property
    def tracking(self) -> Tracking:
        return connect(TrackingConfig(uri=f"sqlite:///{self.folder}/build/mlflow/mlflow.db"))

    @property
    def name(self) -> str:
        return f"shan-{self.features.dataset}"


def run(folder: Path, *argv: str) -> str:
    """A command of the project in a folder; its output, after checking that it succeeded."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
    result = subprocess.run(
        [sys.executable, "-m", *argv], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def quickstart(folder: Path, photos: Photos) -> str:
    options = [f"--dataset={photos.dataset}", f"--photos={photos.folder}", "--train.epochs=2", "--train.batch_size=8"]
    return run(folder, "jobs.quickstart", *options, "--extract.max_rejected=0.05")


@pytest.fixture(scope="module")
def line(real_photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """24 real photos (or scikit-image's) of which one test photo is cut in half, run once."""
    folder = tmp_path_factory.mktemp("line")
    photos = folder / "photos"
    document = json.loads(real_photos.dataset.read_text())
    photos.mkdir()
    for image in document["images"]:
        shutil.copy(real_photos.folder / image["filename"], photos)
    victim = photos / next(image["filename"] for image in document["images"] if image["split"] == "test")
    victim.write_bytes(victim.read_bytes()[:1500])
    damaged = Photos(real_photos.dataset, photos, real_photos.count)
    return Line(folder, quickstart(folder, damaged), damaged)


def test_plain_webdataset_reads_every_photo_but_the_damaged_one(line: Line):
    tars = sorted(str(path) for path in Path(line.features.uri).glob("*.tar"))
    rows = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert len(rows) == line.photos.count - 1
    for row in rows:
        regions, boxes = (np.load(io.BytesIO(row[member])) for member in ("regions.npy", "boxes.npy"))
        meta = json.loads(row["json"])
        assert (regions.shape, regions.dtype) == ((36, 2048), np.float16)
        assert (boxes.shape, boxes.dtype) == ((36, 4), np.float32)
        assert np.isfinite(regions).all()
        assert (boxes.min(axis=0) >= 0).all()
        assert (boxes[:, 2:].max(axis=0) <= (meta["width"], meta["height"])).all()
        assert len(meta["captions"]) == 5


def test_the_damaged_photo_is_recorded_with_its_reason(line: Line):
    (rejection,) = line.features.rejected
    assert rejection.reason in ("image data is truncated or corrupt", "not an image of a known format")
    assert f"rejected 1 x '{rejection.reason}'" in line.output
    assert f"first {rejection.source}; all of them in" in line.output


def test_the_run_holds_config_curves_lineage_and_results(line: Line):
    client = line.tracking.client()
    version = client.get_model_version(line.name, "1")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "2"
    assert run.data.params["model.joint_dim"] == "64"
    assert {"val_rsum", "test_rsum", "test_random_rsum", "seconds_extract", "loss"} <= run.data.metrics.keys()
    first, second = (point.step for point in client.get_metric_history(run.info.run_id, "val_rsum"))
    assert 0 < 2 * first == second
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "curves.png", "evaluation_test.md"} <= artifacts
    for name, value in line.features.lineage.items():
        assert run.data.tags[f"lineage.{name}"] == value
        assert version.tags[name] == value
    assert version.tags["run"] == run.info.run_id


def test_the_champion_is_an_alias_of_a_version_without_pickle(line: Line, tmp_path: Path):
    assert champion_version(line.tracking, line.name) == 1
    stored = [path for path in (line.folder / "build" / "mlflow" / "artifacts").rglob("*") if path.is_file()]
    names = {path.name for path in stored}
    assert {"weights.safetensors", "config.json", "vocabulary.json"} <= names
    assert {"pyfunc.py", "alignment.py", "kernels.cpp"} <= names
    assert not [path for path in stored if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin")]


def test_evaluate_keeps_a_matrix_that_actors_made_and_does_not_make_it_twice(line: Line):
    command = ["jobs.evaluate", f"--model=models:/{line.name}@champion", f"--features={line.features.uri}"]
    here = run(line.folder, *command)
    kept = line.folder / "scores.npy"
    shared = run(line.folder, *command, "--score.num_actors=2", f"--score.cache_file={kept}")
    written = kept.stat().st_mtime_ns
    again = run(line.folder, *command, f"--score.cache_file={kept}")
    assert kept.stat().st_mtime_ns == written
    split = line.features.split("test")
    assert np.load(kept).shape == (len(split), len(split.captions))
    tables = [[row for row in output.splitlines() if row.startswith("|")] for output in (here, shared, again)]
    assert len(tables[0]) == 12  # three tables: header, rule, model, random baseline
    assert tables[0] == tables[1] == tables[2]


def test_a_protocol_refuses_a_split_of_another_size(line: Line):
    command = ["jobs.evaluate", f"--model=models:/{line.name}@champion", f"--features={line.features.uri}"]
    result = subprocess.run(
        [sys.executable, "-m", *command, "--protocol=coco-1k-5fold"],
        cwd=line.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 2
    assert "error: coco-1k-5fold is defined on a test split of 5,000 photos; this one has" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bare_process_loads_the_champion_by_name_and_its_scores_are_the_models_own(line: Line):
    """Without the project on its path: the registered model carries all of its code."""
    split = line.features.split("test")
    code = f"""
import json, sys, mlflow, numpy as np, pandas as pd
mlflow.set_tracking_uri({line.tracking.uri!r})
model = mlflow.pyfunc.load_model("models:/{line.name}@champion")
regions = np.load(sys.argv[1])
captions = ["a dog runs", ""]
lists = model.predict(pd.DataFrame({{"regions": [r.tolist() for r in regions], "caption": captions}}))
arrays = model.predict(pd.DataFrame({{"regions": list(regions), "caption": captions}}))
assert lists == arrays
import shan_model
print(json.dumps([lists, model.metadata.signature.inputs.input_names(), shan_model.__file__]))
"""
    regions = np.asarray(split[[0, 1]], np.float32)
    np.save(line.folder / "regions.npy", regions)
    result = subprocess.run(
        [sys.executable, "-P", "-c", code, str(line.folder / "regions.npy")],
        cwd=line.folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    scores, inputs, package = json.loads(result.stdout.splitlines()[-1])
    assert inputs == ["regions", "caption"]
    (weights,) = (line.folder / "build" / "mlflow" / "artifacts").rglob("weights.safetensors")
    shan = load_bundle(weights.parent)
    with torch.inference_mode():
        expected = shan(torch.from_numpy(regions), ["a dog runs", ""]).diagonal().tolist()
    assert scores == pytest.approx(expected, abs=1e-5)
    assert package.startswith(str(line.folder / "build" / "mlflow" / "artifacts"))


def test_five_queries_are_answered_in_text_and_on_a_page_with_photos(line: Line):
    answers = line.output.split("answers five queries")[1]
    assert len(re.findall(r'^"', answers, re.MULTILINE)) == 5
    assert len(re.findall(r"^  1\. ", answers, re.MULTILINE)) == 5
    (page,) = re.findall(r"^page +(.+)$", line.output, re.MULTILINE)
    text = Path(page).read_text()
    shown = len(line.features.split("test"))
    assert text.count("<h2>") == 5
    assert text.count("src='data:image/jpeg;base64,") == 5 * min(3, shown)


def test_the_printed_command_opens_mlflow_with_the_run_on_it(line: Line):
    (command,) = re.findall(r"^runs +(.+)$", line.output, re.MULTILINE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [*command.split(), f"--port={port}"], cwd=line.folder, env=environment, start_new_session=True
    )
    try:
        query = f"http://127.0.0.1:{port}/api/2.0/mlflow/registered-models/alias?name={line.name}&alias=champion"
        version = json.loads(_get(query))["model_version"]
        assert version["version"] == "1"
        assert "MLflow" in _get(f"http://127.0.0.1:{port}/")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _get(url: str) -> str:
    """The body of an http://127.0.0.1 address, waiting until its server is up."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - our own server
                return response.read().decode()
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(url)


def test_a_second_run_reuses_the_shards_and_the_training(line: Line):
    folder = Path(line.features.uri)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("features-*")}
    output = quickstart(line.folder, line.photos)
    shards = len(line.features.receipts)
    assert f"(0 written now, {shards} reused)" in output
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("features-*")} == before
    assert f"{line.name} version 1 (run " in output
    assert "it is already the champion" in output
    assert champion_version(line.tracking, line.name) == 1


def test_a_model_refuses_features_that_it_was_not_made_for(line: Line, tmp_path: Path):
    other = tmp_path / "features"
    shutil.copytree(line.features.uri, other)
    index = json.loads((other / "index.json").read_text()) | {"fingerprint": "embedded-of-another-day"}
    (other / "index.json").write_text(json.dumps(index | {"feature_set": index_digest(index)}))
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "jobs.search",
            f"--model=models:/{line.name}@champion",
            f"--features={other}",
            f"--tracking.uri={line.tracking.uri}",
            "a dog",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2
    assert "has embedded-of-another-day; extract with the detector" in result.stderr
