"""The plan of a pipeline before it runs, after each stage, and for other settings. Nothing is written."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.registry import set_champions
from infra.tracking import Tracking
from pipelines.datasets.manifest import Manifest
from pipelines.features.feature_set import FeatureSet
from pipelines.pipeline.plan import pipeline_plan
from pipelines.pipeline.setup import STAGES, PipelineSetup
from pipelines.training.claim import claim_training
from pipelines.training.inputs import resolve_inputs
from pipelines.training.train import TrainedModel
from tests.pipelines.pipeline.conftest import extract_here
from tests.support.bad_stores import at_every_expiry


def lines(manifest: Manifest, setup: PipelineSetup, tracking: Tracking | None = None) -> dict[str, str]:
    """Returns the lines of the plan by stage."""
    head, *stages = pipeline_plan(manifest, "m", setup, tracking).splitlines()
    assert head == f"m: data set tiny, 6 photos in {manifest.root}"
    return {line.split()[0]: " ".join(line.split()[1:]) for line in stages}


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_before_the_first_run_every_stage_is_to_do(manifest: Manifest, setup: PipelineSetup, tmp_path: Path):
    before = files(tmp_path)
    found = lines(manifest, replace(setup, until="index"))
    assert found["extract"].startswith("6 photos to detect; 0 of 4 shards are complete in ")
    assert found["train"] == "30 epochs on 1 workers"
    assert found["evaluate"] == "the new version on split 'test'"
    assert found["promote"] == "if it is better than the random baseline, on split 'val'"
    assert found["index"] == f"of the champion, below {tmp_path}/indexes"
    assert files(tmp_path) == before


@pytest.mark.parametrize("until", STAGES)
def test_stages_after_the_last_one_have_no_line(manifest: Manifest, setup: PipelineSetup, until):
    assert list(lines(manifest, replace(setup, until=until))) == list(STAGES[: STAGES.index(until) + 1])


@pytest.fixture
def features(manifest: Manifest, setup: PipelineSetup) -> FeatureSet:
    return extract_here(manifest, setup)


def test_a_finished_extraction_is_done(manifest: Manifest, setup: PipelineSetup, features: FeatureSet):
    assert lines(manifest, setup)["extract"] == f"done, 4 shards in {features.uri}"


def test_lost_shards_are_counted(manifest: Manifest, setup: PipelineSetup, features: FeatureSet):
    features.store.delete(f"{features.index.shards[0].name}.tar")
    assert lines(manifest, setup)["extract"].startswith("2 photos to detect; 3 of 4 shards are complete in ")


def test_complete_shards_without_their_index_are_not_trained_on(
    manifest: Manifest, setup: PipelineSetup, features: FeatureSet, tracking: Tracking
):
    training = claim_training(resolve_inputs(features, "m", setup.training), tracking, resume=False)
    training.inputs.directory.record_result(asdict(TrainedModel(training.run_id, "m", 1, 2, {"val_rsum": 9.0})))
    tracking.client().create_registered_model("m")
    tracking.client().create_model_version("m", "file:///x", run_id=training.run_id)
    assert lines(manifest, setup, tracking)["train"].startswith("done, m version 1 (run ")
    features.store.delete("index.json")
    assert lines(manifest, setup, tracking)["train"] == "30 epochs on 1 workers"


def test_a_refused_read_is_not_taken_for_an_extraction_to_do(
    manifest: Manifest, setup: PipelineSetup, features: FeatureSet
):
    *refused, found = at_every_expiry(lambda: lines(manifest, setup))
    assert isinstance(found, dict)
    assert found["extract"] == f"done, 4 shards in {features.uri}"
    assert refused
    assert all(isinstance(each, UserError) for each in refused), refused


def test_an_interrupted_training_resumes(
    manifest: Manifest, setup: PipelineSetup, features: FeatureSet, tracking: Tracking
):
    training = claim_training(resolve_inputs(features, "m", setup.training), tracking, resume=False)
    assert lines(manifest, setup)["train"] == f"resumes after 0 of 30 epochs in {training.inputs.directory.uri}"
    other = replace(setup, training=replace(setup.training, train=replace(setup.training.train, seed=7)))
    assert lines(manifest, other)["train"] == "30 epochs on 1 workers"


def test_a_decided_version_is_done(manifest: Manifest, setup: PipelineSetup, features: FeatureSet, tracking: Tracking):
    client = tracking.client()
    training = claim_training(resolve_inputs(features, "m", setup.training), tracking, resume=False)
    client.create_registered_model("m")
    for _ in range(2):
        client.create_model_version("m", "file:///x", run_id=training.run_id)
    set_champions(tracking, "m", [1])
    training.inputs.directory.record_result(asdict(TrainedModel(training.run_id, "m", 2, 2, {"val_rsum": 9.0})))
    found = lines(manifest, setup, tracking)
    assert found["evaluate"] == "the new version on split 'test'"
    assert found["promote"] == "if it is better than the champion, version 1, on split 'val'"
    set_champions(tracking, "m", [1, 2])
    assert lines(manifest, setup, tracking)["promote"].startswith("done, models:/m@champion is version 2")
    client.delete_run(training.run_id)
    with pytest.raises(UserError, match=r"has finished, but run .* was deleted; restore it .*; or delete that folder$"):
        lines(manifest, setup, tracking)
    client.restore_run(training.run_id)
    with pytest.raises(UserError, match=r"has finished, but no tracking store exists; set tracking.uri to the one"):
        lines(manifest, setup)
    set_champions(tracking, "m", [1])
    client.delete_model_version("m", "2")
    with pytest.raises(UserError, match=r"has finished, but models:/m/2: .*; or delete that folder$"):
        lines(manifest, setup, tracking)
