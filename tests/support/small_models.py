"""Small models of known quality: an untrained one, and some trained on the split on which tests evaluate them."""

import json
from pathlib import Path

import torch

from infra.model_artifacts import register
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.features.mlflow_lineage import run_tags
from pipelines.models.config import RegisterConfig
from pipelines.models.detector_package import detector_package
from pipelines.models.package import package_model
from shan_model.bundle import save_bundle
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.objective import RankingObjective
from shan_model.vocabulary import Vocabulary
from tests.support.feature_sets import FEATURE_DIM, manifest, write_set


def small_set(folder: Path, photos: int = 180) -> FeatureSet:
    """Writes a feature set: a sixth of the photos is val, a sixth test; all captions differ."""
    return write_set(folder, manifest(folder, photos))


def model(features: FeatureSet, steps: int = 0, seed: int = 0) -> SHAN:
    """Trains a model on the val split itself for some steps: the more steps, the better its results there."""
    torch.manual_seed(seed)
    val = features.split("val")
    config = ModelConfig(region_dim=FEATURE_DIM, joint_dim=16, word_dim=12, matcher="vse++")
    shan = SHAN(config, Vocabulary.build(val.captions))
    objective, optimizer = RankingObjective(shan, 0.2), torch.optim.Adam(shan.parameters(), lr=0.02)
    rows = torch.from_numpy(val.photo_of_caption)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(torch.from_numpy(val[val.photo_of_caption]), val.captions, rows, False).backward()
        optimizer.step()
    return shan.eval()


def write_checkpoint(folder: Path, shan: SHAN, features: FeatureSet) -> str:
    """Writes a checkpoint as training does (bundle and lineage) and returns its URI."""
    save_bundle(shan, folder)
    (folder / "lineage.json").write_text(json.dumps(features.lineage))
    return str(folder)


def register_model(tracking: Tracking, name: str, shan: SHAN, features: FeatureSet, folder: Path) -> int:
    """Registers a version of `name` as training does, with a run of its own; returns the version number."""
    save_bundle(shan, folder)
    run_id = tracking.create_run(name, run_tags(features))
    with tracking.running(run_id):
        lineage = {**features.lineage, "run": run_id, "dataset": features.dataset}
        detector = detector_package(features.index.detector, features.index.fingerprint, RegisterConfig())
        parts = folder.with_name(f"{folder.name}-parts")
        package = package_model(folder, shan.config, lineage, detector, parts)
        return register(tracking, run_id, name, package)


def evaluated_splits(tracking: Tracking, name: str) -> list[str]:
    """Returns the datasets that the run of version 1 of `name` lists with context `evaluation`."""
    run_id = tracking.client().get_model_version(name, "1").run_id
    inputs = tracking.client().get_run(run_id).inputs.dataset_inputs
    return [each.dataset.name for each in inputs if each.tags[0].value == "evaluation"]
