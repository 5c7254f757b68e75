"""What a pipeline checks before it writes anything."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra import cluster_resources
from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.registry import set_champions
from infra.tracking import Tracking
from pipelines.datasets.manifest import Manifest
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.mlflow_lineage import run_tags
from pipelines.pipeline.run import Stopwatch, run_pipeline
from pipelines.pipeline.setup import (
    STAGES,
    PipelineData,
    PipelineSetup,
    Stage,
    check_pipeline,
    require_output_stores,
)
from tests.support.faulty_proxy import CONDITION_IGNORED, faulty_proxy
from tests.support.feature_sets import manifest as feature_sets_manifest
from tests.support.feature_sets import write_set
from tests.support.servers import S3Server, aws_environment

DATA = PipelineData("tiny", "split 'train' of data set tiny", np.array([2, 2, 1]))


@pytest.mark.parametrize(
    ("until", "splits"),
    [
        ("extract", []),
        ("train", ["train", "val"]),
        ("evaluate", ["train", "val", "test"]),
        ("promote", ["train", "val", "test"]),
        ("index", ["train", "val", "test"]),
    ],
)
def test_a_pipeline_reads_the_splits_of_its_stages(setup: PipelineSetup, until: Stage, splits: list[str]):
    shortened = replace(setup, until=until)
    assert shortened.splits() == splits
    assert [stage for stage in STAGES if shortened.runs(stage)] == list(STAGES[: STAGES.index(until) + 1])


def test_the_data_are_known_before_photos_are_read(manifest: Manifest, setup: PipelineSetup):
    data = PipelineData.of(manifest, setup)
    assert (data.name, data.subject) == ("tiny", "split 'train' of data set tiny")
    assert data.captions_per_photo.tolist() == [2, 2, 1]
    assert data.compared == {"astronaut": ("a astronaut", "astronaut!")}


def test_a_missing_split_is_an_error_if_a_stage_needs_it(manifest: Manifest, setup: PipelineSetup):
    rows = [replace(photo, captions=()) if photo.split == "test" else photo for photo in manifest.photos()]
    bare = Manifest.build("tiny", manifest.root, rows)
    with pytest.raises(UserError, match="in split 'test', which is needed up to stage promote; add some"):
        PipelineData.of(bare, setup)
    PipelineData.of(bare, replace(setup, until="train"))


def test_nothing_is_written_and_no_store_is_created(setup: PipelineSetup, tmp_path: Path):
    assert check_pipeline("m", DATA, setup) is None
    assert list(tmp_path.iterdir()) == []


def test_features_have_to_fit_the_model(setup: PipelineSetup):
    wide = replace(setup, training=replace(setup.training, model=replace(setup.training.model, region_dim=16)))
    with pytest.raises(UserError, match=r"gives features of width 8, but model\.region_dim is 16; set .* to 8$"):
        check_pipeline("m", DATA, wide)
    with pytest.raises(UserError, match="--name 'a/b' is not a valid model name"):
        check_pipeline("a/b", DATA, setup)
    check_pipeline("m", DATA, replace(wide, until="extract"))


def test_a_split_of_too_few_captions_is_an_error(setup: PipelineSetup):
    few = replace(DATA, captions_per_photo=np.array([5]))
    with pytest.raises(
        UserError, match=r"train\.batch_size is 2, but split 'train' of data set tiny has only 1 photos"
    ):
        check_pipeline("m", few, setup)


@pytest.mark.parametrize("field", ["extract.output", "train.output"])
def test_an_unwritable_output_is_an_error(setup: PipelineSetup, tmp_path: Path, field: str):
    (tmp_path / "file").write_text("")
    if field == "extract.output":
        changed = replace(setup, extract=replace(setup.extract, output=str(tmp_path / "file")))
    else:
        train = replace(setup.training.train, output=str(tmp_path / "file"))
        changed = replace(setup, training=replace(setup.training, train=train))
    with pytest.raises(UserError, match="file' cannot be written"):
        check_pipeline("m", DATA, changed)


def test_a_model_of_another_data_set_is_refused(setup: PipelineSetup, tracking: Tracking):
    client = tracking.client()
    client.create_registered_model("m")
    client.create_model_version("m", "file:///x", tags={"dataset": "other"})
    with pytest.raises(UserError, match="the registered model 'm' belongs to another data set, other"):
        check_pipeline("m", DATA, setup)
    assert check_pipeline("m", DATA, replace(setup, until="extract")) is None


def test_a_champion_that_cannot_be_compared_is_refused(setup: PipelineSetup, tracking: Tracking):
    tracking.client().create_registered_model("m")
    tracking.client().create_model_version("m", "file:///x", tags={"dataset": "tiny", "fingerprint": "other"})
    set_champions(tracking, "m", [1])
    with pytest.raises(UserError, match=r"models:/m/1 has no run that names its feature set; give the champion's with"):
        check_pipeline("m", DATA, replace(setup, promote=PromoteConfig(split="test")))
    found = check_pipeline("m", DATA, replace(setup, until="evaluate"))
    assert found is not None
    assert found.uri == tracking.uri


def test_photos_that_differ_are_refused_before_extraction(setup: PipelineSetup, tracking: Tracking, tmp_path: Path):
    """Not after hours of extraction and training."""
    old, client = write_set(tmp_path / "old", feature_sets_manifest(tmp_path, 12), fingerprint="old"), tracking.client()
    client.create_registered_model("m")
    client.create_model_version("m", "file:///x", tracking.create_run("m", run_tags(old)), {"fingerprint": "old"})
    client.set_model_version_tag("m", "1", "dataset", "tiny")
    set_champions(tracking, "m", [1])
    captions = dict(zip(old.split("val").keys, old.split("val").captions_of_photos, strict=True))
    same, more = replace(DATA, compared=captions), replace(DATA, compared={**captions, "new": ("a new photo",)})
    check_pipeline("m", same, setup)
    check_pipeline("m", DATA, setup)  # not rendered yet
    message = "split 'val' has 3 photos in data set tiny and 2 photos .* first other photo new; add --intersect"
    with pytest.raises(UserError, match=message):
        check_pipeline("m", more, setup)
    check_pipeline("m", more, replace(setup, intersect=True))
    check_pipeline("m", more, replace(setup, until="evaluate"))
    moved = Path(old.uri).rename(tmp_path / "moved")
    check_pipeline("m", same, replace(setup, champion_features=FeatureSet.open(str(moved))))


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("train", {"cpus_per_worker": 64.0}, r"train\.num_workers is 1, which needs 1 x \(64 CPU\)"),
        ("index", {"actor_cpus": 64.0}, r"index\.actor_cpus is 64, which needs 1 x \(64 CPU\)"),
    ],
)
def test_cpus_that_a_joined_cluster_lacks_are_an_error(
    setup: PipelineSetup, monkeypatch: pytest.MonkeyPatch, section: str, change: dict[str, float], message: str
):
    """The stage comes hours after the start."""
    monkeypatch.setattr(cluster_resources, "GIVE_UP_S", -1.0)
    monkeypatch.setattr("infra.cluster.connect", lambda *_: None)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}])
    training = replace(setup.training, cluster=ClusterConfig(address="auto"))
    joined = replace(setup, training=training, until="index")
    check_pipeline("m", DATA, joined)
    if section == "train":
        changed = replace(joined, training=replace(training, train=replace(training.train, **change)))
    else:
        changed = replace(joined, index=replace(joined.index, **change))
    with pytest.raises(UserError, match=f"^{message}, but the cluster has the nodes"):
        check_pipeline("m", DATA, changed)
    check_pipeline("m", DATA, replace(changed, until="extract"))


def test_stores_of_later_stages_need_conditional_writes(
    manifest: Manifest, setup: PipelineSetup, tracking: Tracking, s3_server: S3Server, tmp_path: Path
):
    output = f"s3://{s3_server.bucket}/{tmp_path.name}"
    training = replace(setup.training, train=replace(setup.training.train, output=output))
    with (
        faulty_proxy(s3_server.endpoint) as proxy,
        aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}),
    ):
        proxy.always(CONDITION_IGNORED)
        changed = replace(setup, training=training)
        check_pipeline("m", DATA, changed)  # also of a dry run, so it writes nothing
        require_output_stores(replace(changed, until="extract"))
        assert proxy.requests["PUT"] == 0
        with pytest.raises(UserError, match=f"^{output}: the store ignores the condition of writes"):
            run_pipeline(manifest, "m", changed, tracking, Stopwatch(STAGES))
    assert not Path(setup.extract.output).exists()
