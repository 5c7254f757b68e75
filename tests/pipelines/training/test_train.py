"""Results of finished trainings. `tests/e2e` and `tests/faults` run whole ones."""

from dataclasses import asdict
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.training.config import TrainConfig
from pipelines.training.prepare import claim_training, resolve_inputs
from pipelines.training.setup import TrainingSetup
from pipelines.training.train import TrainedModel, report, run_training
from shan_model.config import ModelConfig
from tests.support import feature_sets

RESULT = TrainedModel("r", "m", 3, 2, {"val_rsum": 123.456})


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))


def test_report_is_one_line():
    assert report(RESULT) == "m version 3 (run r): best epoch 2, validation rSum 123.5"


@pytest.mark.parametrize("resume", [True, None])
def test_finished_training_returns_its_stored_result(
    features: FeatureSet, tracking: Tracking, tmp_path: Path, resume: bool | None
):
    model = ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4)
    setup = TrainingSetup(model=model, train=TrainConfig(batch_size=4, output=str(tmp_path / "runs")))
    directory = claim_training(resolve_inputs(features, "m", setup), tracking, resume=False).inputs.directory
    directory.record_result(asdict(RESULT))
    assert run_training(features, "m", setup, tracking, resume) == RESULT
    assert "lease-000002.json" not in directory.store.objects()
    with pytest.raises(UserError, match="a run with this configuration has finished"):
        run_training(features, "m", setup, tracking, resume=False)
