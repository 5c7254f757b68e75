"""The stopwatch of the stages, and a run whose stages have nothing to do. `tests/e2e` runs all stages."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.tracking import Tracking
from pipelines.datasets.manifest import Manifest
from pipelines.pipeline.run import Stopwatch, run_pipeline
from pipelines.pipeline.setup import STAGES, PipelineSetup
from pipelines.training.inputs import find_run_directory
from pipelines.training.train import TrainedModel
from tests.pipelines.pipeline.conftest import extract_here
from tests.support.servers import S3Server, aws_environment


def test_each_stage_has_a_heading_and_its_seconds(capsys: pytest.CaptureFixture[str]):
    watch = Stopwatch(("data set", "train"))
    with watch.stage("train", "SHAN on Ray Train"):
        pass
    assert capsys.readouterr().out.splitlines() == ["", "[2/2] SHAN on Ray Train", "      0 s"]
    assert list(watch.seconds) == ["train"]


def test_a_stage_that_fails_has_no_seconds():
    watch = Stopwatch(STAGES)
    with pytest.raises(ZeroDivisionError), watch.stage("train", "x"):
        raise ZeroDivisionError
    assert watch.seconds == {}


def test_seconds_are_summed():
    watch = Stopwatch(("data set", "train"), {"data set": 1.6, "train": 12.2})
    assert watch.summary() == "data set 2, train 12; 14 in all"


def test_a_finished_extraction_is_not_run_again(
    manifest: Manifest, setup: PipelineSetup, capsys: pytest.CaptureFixture[str]
):
    features = extract_here(manifest, setup)
    watch = Stopwatch(STAGES)
    result = run_pipeline(manifest, "m", replace(setup, until="extract"), None, watch)
    assert (result.features.index, result.trained, result.champion) == (features.index, None, None)
    out = capsys.readouterr().out
    assert "[1/5] regions of 6 photos on Ray Data" in out
    assert "(0 written now, 4 reused); 0 detected now" in out
    assert list(watch.seconds) == ["extract"]


def test_a_split_whose_captioned_photos_were_rejected(manifest: Manifest, setup: PipelineSetup, tracking: Tracking):
    moved = {"text": {"split": "val"}, "astronaut": {"captions": ()}}
    rejected = Manifest.build("tiny", manifest.root, [replace(p, **moved.get(p.key, {})) for p in manifest.photos()])
    extract_here(rejected, setup)
    with pytest.raises(UserError, match="no photo of split 'val' has captions; add some and extract again"):
        run_pipeline(rejected, "m", setup, tracking, Stopwatch(STAGES))


def test_a_split_without_usable_photos_ends_the_pipeline(manifest: Manifest, setup: PipelineSetup, tracking: Tracking):
    """Every photo of val was rejected: training is not started."""
    rows = [replace(p, split="val") if p.key == "text" else p for p in manifest.photos() if p.key != "astronaut"]
    rejected = Manifest.build("tiny", manifest.root, rows)
    extract_here(rejected, setup)
    watch = Stopwatch(STAGES)
    with pytest.raises(UserError, match="split 'val' has no photo; add usable photos to it and extract again"):
        run_pipeline(rejected, "m", setup, tracking, watch)
    assert list(watch.seconds) == ["extract"]


def test_finished_pipeline_needs_no_permission_to_write(
    manifest: Manifest, setup: PipelineSetup, tracking: Tracking, s3_server: S3Server, tmp_path: Path
):
    output = f"s3://{s3_server.bucket}/{tmp_path.name}"
    training = replace(setup.training, train=replace(setup.training.train, output=output))
    changed, features = replace(setup, training=training, until="train"), extract_here(manifest, setup)
    trained = TrainedModel(tracking.create_run("m", {}), "m", 1, 1, {"val_rsum": 300.0})
    tracking.client().create_registered_model("m")
    tracking.client().create_model_version("m", "file:///x", trained.run_id)
    with aws_environment(s3_server.environment(reader=True)):
        with pytest.raises(UserError, match="lack permission for PutObject"):
            run_pipeline(manifest, "m", changed, tracking, Stopwatch(STAGES))
        with aws_environment(s3_server.environment()):
            find_run_directory(features, "m", training).record_result(asdict(trained))
        assert run_pipeline(manifest, "m", changed, tracking, Stopwatch(STAGES)).trained == trained
