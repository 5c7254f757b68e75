"""What runs record of a feature set, in a real tracking store, and that MLflow's own API reads it."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import mlflow.data
import pytest
from mlflow.types import Schema

from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet
from pipelines.features.mlflow_lineage import log_datasets, run_tags
from tests.support import feature_sets
from tests.support.servers import S3Server

CONTEXTS = {"train": "training", "val": "validation"}


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    """8 photos of train, of which one is rejected, 2 of val and 2 of test, each with two captions."""
    root = tmp_path / "50% of a #set? "
    return feature_sets.write_set(root, feature_sets.manifest(root, 12))


def inputs(tracking: Tracking, run_id: str) -> list[Any]:
    return sorted(tracking.client().get_run(run_id).inputs.dataset_inputs, key=lambda each: each.dataset.name)


def test_each_split_is_a_dataset_with_counts_schema_and_context(features: FeatureSet, tracking: Tracking):
    run_id = tracking.create_run("m", {})
    log_datasets(tracking, run_id, features, CONTEXTS)
    train, val = inputs(tracking, run_id)
    assert (train.dataset.name, val.dataset.name) == ("tiny train", "tiny val")
    assert train.dataset.digest == val.dataset.digest == features.pinned_uri.rpartition("@")[2]
    assert json.loads(train.dataset.profile) == {"photos": 7, "captions": 14, "rejected": 1, "regions": "3 x 8"}
    assert json.loads(val.dataset.profile) == {"photos": 2, "captions": 4, "rejected": 0, "regions": "3 x 8"}
    assert [(tag.key, tag.value) for each in (train, val) for tag in each.tags] == [
        ("mlflow.data.context", "training"),
        ("mlflow.data.context", "validation"),
    ]
    columns = json.loads(train.dataset.schema)[
        "mlflow_colspec"
    ]  # the form of which MLflow's page shows names and types
    assert all(isinstance(column["type"], str) for column in columns)
    assert Schema.from_json(json.dumps(columns)).input_names() == ["key", "captions", "regions", "boxes"]


def test_mlflow_finds_a_local_source(features: FeatureSet, tracking: Tracking):
    run_id = tracking.create_run("m", {})
    log_datasets(tracking, run_id, features, CONTEXTS)
    source = mlflow.data.get_source(inputs(tracking, run_id)[0])
    assert source.load() == features.uri
    assert FeatureSet.open(source.uri).lineage == features.lineage


def test_mlflow_finds_and_loads_a_source_in_s3(
    features: FeatureSet, tracking: Tracking, s3_server: S3Server, tmp_path: Path
):
    store = open_store(f"s3://{s3_server.bucket}/mlflow-lineage/set")
    for name in features.store.objects():
        store.put_if_absent(name, features.store.read(name))
    stored = FeatureSet.open(store.uri)
    run_id = tracking.create_run("m", {})
    log_datasets(tracking, run_id, stored, CONTEXTS)
    source = mlflow.data.get_source(inputs(tracking, run_id)[1])
    assert (source._get_source_type(), source.uri) == ("s3", store.uri)
    (tmp_path / "copy").mkdir()
    copy = source.load(str(tmp_path / "copy"))
    assert {path.name for path in Path(copy).iterdir()} == set(features.store.objects())


def test_a_second_session_and_a_moved_set_add_nothing(features: FeatureSet, tracking: Tracking, tmp_path: Path):
    run_id = tracking.create_run("m", {})
    moved = FeatureSet.open(str(shutil.copytree(features.uri, tmp_path / "moved")))
    for found in (features, features, moved):
        log_datasets(tracking, run_id, found, CONTEXTS)
    assert [each.dataset.name for each in inputs(tracking, run_id)] == ["tiny train", "tiny val"]
    other = tracking.create_run("other", {})
    log_datasets(tracking, other, features, {"test": "evaluation"})
    assert [each.dataset.name for each in inputs(tracking, other)] == ["tiny test"]


def test_an_extended_set_is_another_dataset(features: FeatureSet, tracking: Tracking, tmp_path: Path):
    more = feature_sets.write_set(tmp_path / "more", feature_sets.manifest(tmp_path, 18))
    run_id = tracking.create_run("m", {})
    for found in (features, more):
        log_datasets(tracking, run_id, found, {"train": "training"})
    assert len({each.dataset.digest for each in inputs(tracking, run_id)}) == 2


@pytest.mark.parametrize("store", ["file", pytest.param("server", marks=[pytest.mark.integration, pytest.mark.long])])
def test_runs_that_start_at_once_log_a_new_dataset(
    store: str, features: FeatureSet, tracking: Tracking, tmp_path: Path, request: pytest.FixtureRequest
):
    if store == "server":
        tracking = connect(TrackingConfig(uri=request.getfixturevalue("mlflow_uri"), experiment=str(tmp_path)))
    runs = [tracking.create_run(str(number), {}) for number in range(4)]
    barrier = Barrier(len(runs))

    def log(run_id: str) -> None:
        barrier.wait(60)
        log_datasets(tracking, run_id, features, CONTEXTS)

    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(log, runs))
    assert [len(inputs(tracking, run_id)) for run_id in runs] == [2] * len(runs)


def test_tags_name_the_feature_set_and_its_lineage(features: FeatureSet):
    assert run_tags(features) == {
        "feature_set_uri": features.uri,
        "lineage.manifest": features.index.manifest,
        "lineage.fingerprint": "made-up-0123",
        "lineage.feature_set": features.index.feature_set,
    }
