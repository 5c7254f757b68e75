"""Trainings without Ray give the models of `jobs.train`."""

import logging
from pathlib import Path

import pytest
import torch

from infra.tracking import TrackingConfig, connect
from pipelines.models.load import load_matcher
from shan_model.bundle import load_bundle
from tests.benchmarks import local_training
from tests.support import feature_sets
from tests.support.commands import call_command

OPTIONS = [
    f"--model.region_dim={feature_sets.FEATURE_DIM}", "--model.joint_dim=8", "--model.word_dim=8", "--train.epochs=3",
    "--train.batch_size=4", "--train.num_workers=1", "--train.hard_negative_warmup_epochs=1", "--train.seed=3",
]  # fmt: skip


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_the_model_is_that_of_a_training_with_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("mlflow"), "handlers", [])  # as where a command is the first to import it
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 25))
    code, _, log = call_command(
        monkeypatch, capsys, "jobs.train", f"--features={features.uri}", "--name=shan", *OPTIONS
    )
    assert code == 0, log
    tracking = connect(TrackingConfig(uri=f"sqlite:///{tmp_path}/build/mlflow/mlflow.db"))
    registered = load_matcher(tracking, "models:/shan/1", features).state_dict()

    trained = local_training.train_here(features, local_training.setup_of(OPTIONS), tmp_path / "bundle")
    found = load_bundle(tmp_path / "bundle").state_dict()
    assert registered.keys() == found.keys()
    assert all(torch.equal(registered[name], found[name]) for name in found)
    run = tracking.client().get_run(tracking.client().get_model_version("shan", "1").run_id)
    assert run.data.metrics["val_rsum"] == pytest.approx(trained.val_rsum)
