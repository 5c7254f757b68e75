"""Builds a small run directory in today's format: `python -m tests.support.stored_run FOLDER`.

tests/fixtures/0.2/run_directory was written by it. Later versions must read that copy, so it is never replaced.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from infra.canonical_json import canonical_json
from pipelines.training.batches import Batch
from pipelines.training.checkpoint import TrainState, epoch_checkpoint, write_validation
from pipelines.training.config import TrainConfig
from pipelines.training.identity import VERSION, settings_identity
from pipelines.training.run_directory import RunDirectory, open_run_directory
from pipelines.training.setup import TrainingSetup
from pipelines.training.step import objective_of, take_step
from pipelines.training.train import TrainedModel
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support import ROOT

FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "run_directory"
RUN_ID = "0123456789abcdef0123456789abcdef"
LINEAGE = {"manifest": "m" * 64, "fingerprint": "made-up", "feature_set": "f" * 64, "run": RUN_ID, "dataset": "tiny"}
CAPTIONS = ["a dog", "two cats sleep", "a red car", "snow"]
STEPS = 2
RESULT = TrainedModel(RUN_ID, "m", version=1, best_epoch=1, metrics={"val_rsum": 123.5})
SETUP = TrainingSetup(
    model=ModelConfig(region_dim=6, joint_dim=8, word_dim=4, affinity_init="xavier"),
    train=TrainConfig(epochs=2, batch_size=4, ema_decay=0.9, learning_rate=1e-3, hard_negative_warmup_epochs=0),
)


def new_state(seed: int = 0) -> TrainState:
    """Returns the state at the start of the training."""
    torch.manual_seed(seed)
    return TrainState(SHAN(SETUP.model, Vocabulary.build(CAPTIONS)), SETUP.train, torch.device("cpu"))


def train(state: TrainState, steps: int) -> list[float]:
    """Trains some steps on made-up features. Returns the losses."""
    losses = []
    for _ in range(steps):
        random = np.random.default_rng(state.progress.step)
        batch = Batch(CAPTIONS, np.arange(4), random.normal(size=(4, 3, 6)).astype(np.float16))
        result = take_step(state, objective_of(state.shan, SETUP.train), [batch], SETUP.train, steps_per_epoch=STEPS)
        losses.append(result.loss.item())
    return losses


def write_run_directory(folder: Path) -> RunDirectory:
    """Writes the run directory of a training after the first of its two epochs, and the result of a finished one."""
    directory = open_run_directory(str(folder.parent), folder.name)
    directory.claim()
    directory.store.replace("lease-000001.json", canonical_json({"host": "node-1", "process": 4242}))
    directory.record_run(
        RUN_ID, {"version": VERSION, "feature_set": LINEAGE["feature_set"], **settings_identity(SETUP)}
    )
    state = new_state()
    losses = train(state, STEPS)
    metrics = {"val_rsum": 123.5, "epoch": 1}
    progress = state.progress
    progress.validated, progress.best_rsum, progress.best_epoch = 1, 123.5, 1
    progress.history = [(STEPS, 1764000000000, {"loss": losses[-1], "lr": 1e-3}), (STEPS, 1764000001000, metrics)]
    checkpoint = folder / epoch_checkpoint(1, token=1)
    checkpoint.mkdir()
    state.save(checkpoint, LINEAGE)
    write_validation(checkpoint, {"image_to_text": [50.0, 100.0], "text_to_image": [50.0, 100.0]})
    _write_record(folder, {"score": 123.5, "best": 123.5, **metrics, "rows": progress.history})
    directory.record_result(asdict(RESULT))
    return directory


def _write_record(folder: Path, metrics: dict[str, object]) -> None:
    """Writes Ray Train's record of the checkpoint."""
    result = {"version": 0, "checkpoint_dir_name": epoch_checkpoint(1, token=1), "metrics": metrics}
    record = {
        "ray_version": "2.60.0",
        "checkpoint_results": [result],
        "checkpoint_report_indices": [0],
        "latest_checkpoint_result": result,
        "pending_training_results": [],
        "pending_validation_specs": [],
        "current_report_index": 1,
        "validated_checkpoint_dir_names": [],
        "timed_out_validation_checkpoint_dir_names": [],
        "failed_validation_checkpoint_dir_names": [],
    }
    (folder / "checkpoint_manager_snapshot.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_run_directory(Path(sys.argv[1]))
