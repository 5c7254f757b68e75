"""Builds the run directory of a small finished sweep in today's format: `python -m tests.support.stored_sweep FOLDER`.

tests/fixtures/0.2/sweep_directory was written by it. Later versions must read that copy, so it is never replaced.
"""

import sys
from dataclasses import asdict, replace
from pathlib import Path

from infra.canonical_json import canonical_json
from pipelines.features.feature_set import FeatureSet
from pipelines.training.config import TrainConfig
from pipelines.training.run_directory import open_run_directory
from pipelines.training.setup import TrainingSetup
from pipelines.training.sweeps.config import SweepConfig
from pipelines.training.sweeps.space import parse_space, space_identity
from pipelines.training.sweeps.sweep import Trial, sweep_identity
from pipelines.training.train import TrainedModel
from shan_model.config import ModelConfig
from tests.support import ROOT, stored_feature_set

FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "sweep_directory"
SPACE = ["train.margin=choice(0.1, 0.2)", "model.gate=grid(vector, scalar)", "train.seed=randint(0, 9)"]
SWEEP = SweepConfig(num_trials=1, seed=3)
SETUP = TrainingSetup(
    model=ModelConfig(region_dim=8, joint_dim=8, word_dim=4, affinity_init="xavier"),
    train=TrainConfig(epochs=2, batch_size=2, num_workers=1, hard_negative_warmup_epochs=0),
)
TRIALS = [
    Trial({"train.margin": 0.2, "model.gate": "scalar", "train.seed": 7}, "2" * 32, 123.5, 2),
    Trial({"train.margin": 0.1, "model.gate": "vector", "train.seed": 2}, "1" * 32, 50.25, 1),
]
BEST = TrainedModel("2" * 32, "m", version=1, best_epoch=2, metrics={"val_rsum": 123.5})
RUN_ID = "0123456789abcdef0123456789abcdef"


def setup_in(output: Path) -> TrainingSetup:
    """Returns the setup of the sweep with another `train.output`."""
    return replace(SETUP, train=replace(SETUP.train, output=str(output)))


def write_sweep_directory(folder: Path) -> None:
    """Writes the run directory of a finished sweep over the feature set in tests/fixtures."""
    features = FeatureSet.open(str(stored_feature_set.FIXTURE))
    directory = open_run_directory(str(folder.parent), folder.name)
    directory.claim()
    directory.store.replace("lease-000001.json", canonical_json({"host": "node-1", "process": 4242}))
    directory.record_run(RUN_ID, sweep_identity(features, space_identity(SPACE, parse_space(SPACE)), SWEEP, SETUP))
    directory.record_result({"trials": [asdict(trial) for trial in TRIALS], "best": asdict(BEST)})


if __name__ == "__main__":
    write_sweep_directory(Path(sys.argv[1]))
