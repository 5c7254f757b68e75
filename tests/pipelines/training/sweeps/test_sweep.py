"""Sweeps: identity, logged settings, stored results. `tests/faults/test_sweep_faults.py` runs complete ones."""

from dataclasses import asdict
from pathlib import Path

import pytest

from infra.errors import StorageError, UserError
from infra.tracking import Tracking, TrackingConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.training.config import TrainConfig
from pipelines.training.identity import directory_name
from pipelines.training.run_directory import open_run_directory
from pipelines.training.setup import TrainingSetup
from pipelines.training.sweeps import sweep as module
from pipelines.training.sweeps.config import SweepConfig
from pipelines.training.sweeps.sweep import Trial, run_sweep, sweep_identity, trials_table
from pipelines.training.train import TrainedModel
from shan_model.config import ModelConfig
from tests.support import feature_sets
from tests.support.tiny_bert import write_tiny_bert

SPACE = ["train.margin=choice(0.1, 0.2)", "model.gate=choice(scalar)"]


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))


@pytest.mark.parametrize("field", ["num_trials", "grace_period_epochs", "reduction_factor"])
def test_config_out_of_range_is_named(field: str):
    with pytest.raises(ValueError, match=rf"sweep\.{field} is 0; it must be at least"):
        SweepConfig(**{field: 0})


def test_identity_depends_on_space_sweep_and_training(features: FeatureSet):
    def identity(space: list[str] = SPACE, sweep: SweepConfig | None = None, **train: object) -> dict[str, object]:
        setup = TrainingSetup(train=TrainConfig(**train))  # type: ignore[arg-type]
        return sweep_identity(features, space, sweep or SweepConfig(), setup)

    assert identity() == {
        "version": 1, "feature_set": features.index.feature_set, "space": SPACE, "sweep": {},
        "model": {"affinity_init": "identity"}, "train": {"hard_negative_warmup_epochs": 1},
    }  # fmt: skip
    assert identity(sweep=SweepConfig(num_trials=3))["sweep"] == {"num_trials": 3}
    assert identity(num_workers=1) == identity()
    assert identity(margin=0.5) == identity()  # the space has other values
    assert identity(epochs=3) != identity() != identity(space=SPACE[:1])


def test_a_missing_file_is_an_error_before_any_trial(features: FeatureSet, tracking: Tracking, tmp_path: Path):
    model = ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4)
    setup = TrainingSetup(model=model, train=TrainConfig(batch_size=4, output=str(tmp_path / "runs")))
    space = [f"train.word_vectors=choice({tmp_path}/none.txt)"]
    with pytest.raises(UserError, match=r"^train\.word_vectors '.*/none\.txt' cannot be read"):
        run_sweep(features, "m", space, SweepConfig(), setup, tracking)
    assert not (tmp_path / "runs").exists()
    assert tracking.client().search_runs([tracking.experiment_id]) == []


def test_an_unusable_text_encoder_is_an_error_before_any_trial(
    features: FeatureSet, tracking: Tracking, tmp_path: Path
):
    model = ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8)
    setup = TrainingSetup(model=model, train=TrainConfig(batch_size=4, output=str(tmp_path / "runs")))
    folder = write_tiny_bert(tmp_path / "bert")
    space = ["model.text_encoder=choice(hf)", f"model.hf_model=grid({folder}, {tmp_path}/none)"]
    with pytest.raises(UserError, match=r"^model\.hf_model '.*/none' cannot be loaded .*; give a folder or hub name"):
        run_sweep(features, "m", space, SweepConfig(), setup, tracking)
    assert not (tmp_path / "runs").exists()
    assert tracking.client().search_runs([tracking.experiment_id]) == []


def test_table_has_a_row_per_trial():
    trials = [Trial({"train.margin": 0.12345}, "r1", 50.04, 3), Trial({"train.margin": 0.2}, "r2", 40.0, 1)]
    assert trials_table(trials).rows == [["0.1235", "50.0", "3", "r1"], ["0.2", "40.0", "1", "r2"]]


def test_run_logs_datasets_space_and_sections_of_a_sweep(features: FeatureSet, tracking: Tracking):
    run_id = tracking.create_run("m sweep", {})
    setup = TrainingSetup(tracking=TrackingConfig(uri="http://user:secret@host"))
    for _ in range(2):  # the second session logs nothing
        module._log_settings(tracking, run_id, features, SPACE, SweepConfig(num_trials=3), setup.redacted())
    run = tracking.client().get_run(run_id)
    assert sorted(each.dataset.name for each in run.inputs.dataset_inputs) == ["tiny train", "tiny val"]
    params = run.data.params
    assert {name.split(".")[0] for name in params} == {
        "space", "sweep", "model", "train", "cache", "tracking", "register", "cluster",
    }  # fmt: skip
    assert (params["space.1"], params["sweep.num_trials"]) == (SPACE[1], "3")
    assert not params.keys() & {entry.partition("=")[0] for entry in SPACE}  # no trial has their values
    assert params["tracking.uri"] == "http://host"


@pytest.mark.parametrize(
    ("epochs", "warning"),
    [
        (3, ""),
        (
            2,
            "warning: sweep.grace_period_epochs is 2 and train.epochs 2, so no trial is stopped early; lower the "
            "first\n",
        ),
    ],
)
def test_a_finished_sweep_returns_its_result(
    features: FeatureSet,
    tracking: Tracking,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    epochs: int,
    warning: str,
):
    model = ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4)
    setup = TrainingSetup(model=model, train=TrainConfig(batch_size=4, epochs=epochs, output=str(tmp_path / "runs")))
    trial = Trial({"train.margin": 0.1, "model.gate": "scalar"}, "r1", 50.0, 3)
    best = TrainedModel("r1", "m", 1, 3, {"val_rsum": 50.0})
    identity = sweep_identity(features, SPACE, SweepConfig(), setup)
    directory = open_run_directory(setup.train.output, directory_name("m-sweep", identity))
    directory.record_result({"trials": [asdict(trial)], "best": asdict(best)})
    trials, found = run_sweep(features, "m", SPACE, SweepConfig(), setup, tracking)
    assert (trials, found, capsys.readouterr().err) == ([trial], best, warning)
    assert list(trials[0].values) == ["train.margin", "model.gate"]
    for edit in ({"best": None}, {"trials": []}, {"trials": [{}]}, {"trials": [asdict(trial) | {"values": {}}]}):
        directory.record_result({"trials": [asdict(trial)], "best": asdict(best)} | edit)
        with pytest.raises(UserError, match=r"finished\.json is corrupt; delete the run directory"):
            run_sweep(features, "m", SPACE, SweepConfig(), setup, tracking)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (["train.margin"], "--space 'train.margin' is not valid"),
        (["train.margin=uniform(0, 1)"], "--space allows train.margin=0"),
        (["train.batch_size=choice(4, 400)"], "train.batch_size is 400, but split 'train'"),
        (["model.region_dim=choice(8, 9)"], "has features of width 8, but model.region_dim is 9"),
    ],
)
def test_invalid_space_is_an_error_before_anything_is_written(
    features: FeatureSet, tracking: Tracking, tmp_path: Path, space: list[str], message: str
):
    model = ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4)
    setup = TrainingSetup(model=model, train=TrainConfig(batch_size=4, output=str(tmp_path / "runs")))
    with pytest.raises(UserError, match=message):
        run_sweep(features, "m", space, SweepConfig(), setup, tracking)
    assert not (tmp_path / "runs").exists()
    assert list(tracking.client().search_runs([tracking.experiment_id])) == []


def test_a_missing_temporary_folder_is_an_error_before_the_run(
    features: FeatureSet, tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    model = ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4)
    setup = TrainingSetup(model=model, train=TrainConfig(batch_size=4, output=str(tmp_path / "runs")))
    with pytest.raises(UserError, match=r"^no temporary folder can be made \(No such file .*/gone/shan-sweep-.*TMPDIR"):
        run_sweep(features, "m", ["train.margin=choice(0.1, 0.2)"], SweepConfig(), setup, tracking)
    assert not (tmp_path / "runs").exists()
    assert list(tracking.client().search_runs([tracking.experiment_id])) == []


def test_runs_of_interrupted_trials_are_killed(tracking: Tracking, tmp_path: Path):
    lease = open_run_directory(str(tmp_path), "m-sweep-0123456789ab").claim()
    client, tags = tracking.client(), {"mlflow.parentRunId": "parent"}
    running, finished, other = (tracking.create_run("m", each) for each in (tags, tags, {}))
    client.set_terminated(finished)
    module._kill_trials(tracking, "parent", lease)
    statuses = [client.get_run(run_id).info.status for run_id in (running, finished, other)]
    assert statuses == ["KILLED", "FINISHED", "RUNNING"]
    client.update_run(running, status="RUNNING")
    lease.directory.acquire_lease()
    module._kill_trials(tracking, "parent", lease)
    assert client.get_run(running).info.status == "RUNNING"  # it belongs to the sweep that resumed


@pytest.mark.parametrize(
    ("errors", "kind", "text"),
    [
        (
            ["ray::train_trial()\ninfra.tracking_errors.TrackingError: tracking.uri http://h fails; try again\n"],
            StorageError,  # `run_sweep` adds how to continue
            "no trial has finished an epoch (tracking.uri http://h fails; try again)",
        ),
        (
            ["infra.errors.UserError: the training diverged at step 3"],
            UserError,
            "no trial has finished an epoch (infra.errors.UserError: the training diverged at step 3); try the "
            "settings with jobs.train",
        ),
        ([], UserError, "no trial has finished an epoch (all were stopped); try the settings with jobs.train"),
    ],
)
def test_a_sweep_without_results_names_the_cause(errors: list[str], kind: type[Exception], text: str):
    found = module._without_trials(errors)
    assert (type(found), str(found)) == (kind, text)
