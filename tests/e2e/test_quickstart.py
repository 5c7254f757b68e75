"""The results of the demo as other programs see them, and further commands on those results.

Plain WebDataset reads the shards, a bare MLflow loads the model, and a second run reuses both.
"""

import ast
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from infra.registry import champion_version
from pipelines.features.index import index_digest
from pipelines.search.index_format import read_index_document
from shan_model.bundle import load_bundle
from tests.e2e.conftest import NAME, PHOTOS, Demo
from tests.support import ROOT
from tests.support.commands import call_command
from tests.support.registered import run_consumer
from tests.support.servers import free_ports


def test_plain_webdataset_reads_every_photo(demo: Demo):
    tars = sorted(str(path) for path in Path(demo.features.uri).glob("*.tar"))
    keys = set()
    for row in webdataset.WebDataset(tars, shardshuffle=False):
        keys.add(row["__key__"])
        regions, boxes = (np.load(io.BytesIO(row[member])) for member in ("regions.npy", "boxes.npy"))
        meta = json.loads(row["json"])
        assert (regions.shape, regions.dtype) == ((36, 2048), np.float16)
        assert (boxes.shape, boxes.dtype) == ((36, 4), np.float32)
        assert np.isfinite(regions).all()
        assert (boxes.min(axis=0) >= 0).all()
        assert (boxes[:, 2:].max(axis=0) <= (meta["width"], meta["height"])).all()
        assert len(meta["captions"]) == 5
    assert len(keys) == sum(len(demo.features.split(name)) for name in ("train", "val", "test")) == PHOTOS


def test_the_run_holds_config_curves_lineage_and_results(demo: Demo):
    client = demo.tracking.client()
    version = client.get_model_version(NAME, "1")
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "4"
    assert run.data.params["model.joint_dim"] == "64"
    assert {"val_rsum", "test_rsum", "test_random_rsum", "loss"} <= run.data.metrics.keys()
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "val_rsum")]
    assert steps == [steps[0] * epoch for epoch in (1, 2, 3, 4)]
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "curves.png", "evaluation_test.md"} <= artifacts
    for name, value in demo.features.lineage.items():
        assert run.data.tags[f"lineage.{name}"] == value
        assert version.tags[name] == value
    assert version.tags["run"] == run.info.run_id
    datasets = {each.dataset.name: each.tags[0].value for each in run.inputs.dataset_inputs}
    assert datasets == {"scenes train": "training", "scenes val": "validation", "scenes test": "evaluation"}


def test_champion_alias_points_to_version_without_pickle(demo: Demo):
    assert champion_version(demo.tracking, NAME) == 1
    stored = [path for path in (demo.folder / "build" / "mlflow" / "artifacts").rglob("*") if path.is_file()]
    names = {path.name for path in stored}
    assert {"weights.safetensors", "config.json", "vocabulary.json"} <= names
    assert {"pyfunc.py", "alignment.py", "kernels.cpp"} <= names
    assert not [path for path in stored if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin")]


def test_every_link_of_the_champions_lineage_holds(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(demo.folder)
    code, said, _ = call_command(monkeypatch, capsys, "jobs.lineage", demo.model)
    assert (code, said.splitlines()[-1]) == (0, f"lineage of {demo.model}: 12 ok"), said


@pytest.mark.long  # tests/shan_model/test_score_cache.py has the parts
@pytest.mark.usefixtures("ray_session")
def test_score_cache_is_written_once_then_read(demo: Demo):
    command = ["jobs.evaluate", f"--model={demo.model}", f"--features={demo.features.uri}"]
    cache = demo.folder / "scores.npy"
    by_actors = demo.run(*command, "--score.num_actors=2", f"--score.cache_file={cache}")
    written = cache.stat().st_mtime_ns
    split = demo.features.split("test")
    assert np.load(cache).shape == (len(split), len(split.captions))
    by_cache = demo.run(*command, f"--score.cache_file={cache}")
    assert cache.stat().st_mtime_ns == written
    # The demo itself evaluated the same model in one process.
    tables = [[row for row in output.splitlines() if row.startswith("|")] for output in (by_actors, by_cache)]
    assert len(tables[0]) == 12  # three tables: header, rule, model, random baseline
    assert tables[0] == tables[1]
    numbers = [row.partition("|")[2].partition("|")[2] for row in tables[0]]
    evaluated = demo.output.split("the new version on the test split")[1]
    printed = [row.partition("|")[2].partition("|")[2] for row in evaluated.splitlines() if row.startswith("|")]
    assert printed == numbers  # and each table once


def test_reranking_is_compared_with_exact_scoring(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(demo.folder)
    arguments = f"--model={demo.model}", f"--features={demo.features.uri}", "--split=val"
    code, said, _ = call_command(monkeypatch, capsys, "jobs.rerank", *arguments)
    assert code == 0
    rows = [row for row in said.splitlines() if row.startswith("|")]
    assert len(rows) > 2
    assert "recall" in rows[0]


def test_a_protocol_rejects_a_split_of_another_size(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(demo.folder)
    arguments = f"--model={demo.model}", f"--features={demo.features.uri}", "--protocol=coco-1k-5fold"
    code, _, said = call_command(monkeypatch, capsys, "jobs.evaluate", *arguments)
    assert code == 2
    assert "error: protocol coco-1k-5fold is defined on a test split of 5,000 photos but this split has" in said


def test_the_python_example_of_readme_ranks_photos(demo: Demo, tmp_path: Path):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for number, photo in enumerate(sorted(demo.folder.glob("build/scenes/*/photos/*"))[:2], 1):
        shutil.copyfile(photo, tmp_path / f"{number}.jpg")
    code = example.replace("mlflow.pyfunc.load_model(", "ranking = mlflow.pyfunc.load_model(")
    code += "print(sorted(zip(ranking.image_row, ranking['rank'], ranking.caption)))"
    output = run_consumer(tmp_path, code, MLFLOW_TRACKING_URI=demo.tracking.uri)
    ranking = ast.literal_eval(output.splitlines()[-1])
    assert [(image, rank) for image, rank, _ in ranking] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert {caption for _, _, caption in ranking} == {"a red bus", "two dogs"}


@pytest.mark.long
def test_a_process_without_the_project_gets_the_same_scores(demo: Demo, tmp_path: Path):
    """The registered model carries all of its code."""
    split = demo.features.split("test")
    code = f"""
import json, sys, mlflow, numpy as np, pandas as pd
mlflow.set_tracking_uri({demo.tracking.uri!r})
model = mlflow.pyfunc.load_model({demo.model!r})
regions = np.load(sys.argv[1])
captions = ["a dog runs", "two"]
lists = model.predict(pd.DataFrame({{"regions": [r.tolist() for r in regions], "caption": captions}}))
arrays = model.predict(pd.DataFrame({{"regions": list(regions), "caption": captions}}))
assert lists == arrays
network = sys.modules[type(model.unwrap_python_model().shan).__module__]
print(json.dumps([lists, model.metadata.signature.inputs.input_names(), network.__file__]))
"""
    regions = np.asarray(split[[0, 1]], np.float32)
    np.save(demo.folder / "regions.npy", regions)
    output = run_consumer(tmp_path, code, str(demo.folder / "regions.npy"))
    scores, inputs, module = json.loads(output.splitlines()[-1])
    assert inputs == ["image", "regions", "boxes", "caption"]
    (weights,) = (demo.folder / "build" / "mlflow" / "artifacts").rglob("weights.safetensors")
    shan = load_bundle(weights.parent)
    with torch.inference_mode():
        expected = shan(torch.from_numpy(regions), ["a dog runs", "two"]).diagonal().tolist()
    assert scores == pytest.approx(expected, abs=1e-5)
    assert module.startswith(str(demo.folder / "build" / "mlflow" / "artifacts"))


def test_the_plan_of_a_finished_pipeline(demo: Demo):
    """The demo ran the same stages: their results have the same identities."""
    (photos,) = demo.folder.glob("build/scenes/*/photos")
    (dataset,) = photos.parent.glob("dataset_*.json")
    command = ["jobs.pipeline", f"--dataset={dataset}", f"--photos={photos}", f"--name={NAME}", "--preset=quickstart"]
    said = demo.run(*command, "--dry-run")
    head, *lines = said.splitlines()[:5]
    assert head == f"{NAME}: data set scenes, {PHOTOS} photos in {photos}"
    assert lines[0].split()[:4] == ["extract", "done,", str(len(demo.features.receipts)), "shards"]
    assert f"{NAME} version 1 (run " in lines[1]
    assert lines[2].split() == ["evaluate", "done"]
    assert f"done, models:/{NAME}@champion is version 1" in lines[3]


def stored(demo: Demo, *folders: Path) -> tuple[dict[Path, int], list[dict], dict[str, str]]:
    """Returns what a pipeline writes to: times of files, runs with their metrics, and tags of the version."""
    folders = (demo.folder / "build", *folders)
    files = [path for folder in folders for path in folder.rglob("*") if not path.name.startswith("mlflow.db")]
    client = demo.tracking.client()
    runs = [run.to_dictionary() for run in client.search_runs([demo.tracking.experiment_id])]
    return {path: path.stat().st_mtime_ns for path in files}, runs, client.get_model_version(NAME, "1").tags


@pytest.mark.long  # test_the_plan_of_a_finished_pipeline and test_index_build.py have the parts
@pytest.mark.usefixtures("ray_session")
def test_a_repeated_pipeline_with_index_writes_nothing(demo: Demo, tmp_path: Path):
    (photos,) = demo.folder.glob("build/scenes/*/photos")
    (dataset,) = photos.parent.glob("dataset_*.json")
    command = ["jobs.pipeline", f"--dataset={dataset}", f"--photos={photos}", f"--name={NAME}", "--preset=quickstart"]
    command += ["--until=index", f"--index.output={tmp_path}"]
    said = demo.run(*command)
    (folder,) = tmp_path.iterdir()
    assert f"\n  index     0 of 6 partitions are complete in {folder}\n" in said
    assert "\n  6 partitions written now, 0 reused\n" in said
    _, document = read_index_document(str(folder))
    assert {name: gallery.items for name, gallery in document.galleries.items()} == {
        "photos": PHOTOS,
        "captions": 5 * PHOTOS,
    }
    assert f"\nindex     {folder}@{document.index[:12]}\n" in said
    before = stored(demo, tmp_path)
    said = demo.run(*command)
    assert f"\n  index     done, 6 partitions in {folder}\n" in said
    assert stored(demo, tmp_path) == before


@pytest.mark.parametrize("options", [("--dry-run", "--train.seed=9"), ("--until=extract",)])
def test_only_a_training_pipeline_creates_a_tracking_store(demo: Demo, tmp_path: Path, options: tuple[str, ...]):
    (photos,) = demo.folder.glob("build/scenes/*/photos")
    (dataset,) = photos.parent.glob("dataset_*.json")
    command = ["jobs.pipeline", f"--dataset={dataset}", f"--photos={photos}", f"--name={NAME}", "--preset=quickstart"]
    said = demo.run(*command, f"--tracking.uri=sqlite:///{tmp_path}/mlflow.db", *options)
    assert said.splitlines()[1].split()[:2] == ["extract", "done,"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_printed_command_opens_mlflow_with_the_run_on_it(demo: Demo):
    (command,) = re.findall(r"^runs +(.+)$", demo.output, re.MULTILINE)
    (port,) = free_ports(1)
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [*command.split(), f"--port={port}"], cwd=demo.folder, env=environment, start_new_session=True
    )
    try:
        query = f"http://127.0.0.1:{port}/api/2.0/mlflow/registered-models/alias?name={NAME}&alias=champion"
        version = json.loads(_get(query))["model_version"]
        assert version["version"] == "1"
        assert "MLflow" in _get(f"http://127.0.0.1:{port}/")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _get(url: str) -> str:
    """Returns the body of a loopback address; waits until its server is up."""
    give_up_at = time.monotonic() + 120
    while time.monotonic() < give_up_at:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - our own server
                return response.read().decode()
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(url)


@pytest.mark.long
def test_a_second_run_reuses_shards_and_training(demo: Demo):
    folder = Path(demo.features.uri)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("features-*")}
    (dataset,) = demo.folder.glob("build/scenes/*/dataset_*.json")
    output = demo.run("jobs.quickstart", f"--dataset={dataset}", f"--photos={dataset.parent}/photos")
    shards = len(demo.features.receipts)
    assert f"(0 written now, {shards} reused)" in output
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("features-*")} == before
    assert f"{NAME} version 1 (run " in output
    assert "it is already the champion" in output
    assert champion_version(demo.tracking, NAME) == 1


def test_a_model_rejects_features_of_another_detector(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    other = tmp_path / "features"
    shutil.copytree(demo.features.uri, other, copy_function=os.link)
    index = json.loads((other / "index.json").read_text()) | {"fingerprint": "embedded-of-another-day"}
    (other / "index.json").unlink()
    (other / "index.json").write_text(json.dumps(index | {"feature_set": index_digest(index)}))
    arguments = f"--model={demo.model}", f"--features={other}", f"--tracking.uri={demo.tracking.uri}"
    code, _, said = call_command(monkeypatch, capsys, "jobs.search", *arguments, "a dog")
    assert code == 2
    assert "has features of embedded-of-another-day; extract with the detector" in said
