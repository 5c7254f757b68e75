"""A pipeline of six small photos, and its extraction without Ray."""

from pathlib import Path

import pytest

from infra.cluster import ClusterConfig
from infra.tracking import TrackingConfig
from pipelines.datasets.manifest import Manifest
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.extraction.detect import Detect
from pipelines.extraction.operators import Commit, Fetch, part_row
from pipelines.extraction.run import plan_extraction
from pipelines.features.account import Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription
from pipelines.features.manifests import write_manifest
from pipelines.features.publish import publish
from pipelines.features.receipt import Receipt
from pipelines.features.shard_plan import PlannedPart
from pipelines.pipeline.setup import PipelineSetup
from pipelines.search.config import IndexConfig
from pipelines.training.config import TrainConfig
from pipelines.training.setup import TrainingSetup
from shan_model.config import ModelConfig
from tests.support import extractions


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two photos of train, one of val and one of test; another of train and one of test are not images."""
    return extractions.manifest_of(extractions.write_photos(tmp_path / "photos"))


@pytest.fixture
def setup(tmp_path: Path) -> PipelineSetup:
    """Settings of all stages. Their tracking store is that of the fixture `tracking`, and exists only with it."""
    training = TrainingSetup(
        model=ModelConfig(region_dim=8, joint_dim=8, word_dim=4),
        train=TrainConfig(batch_size=2, num_workers=1, output=str(tmp_path / "runs")),
        tracking=TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"),
    )
    index = IndexConfig(output=str(tmp_path / "indexes"))
    return PipelineSetup(extractions.config(tmp_path), training, ScoreConfig(), PromoteConfig(), index)


def extract_here(manifest: Manifest, setup: PipelineSetup) -> FeatureSet:
    """Extracts in this process what `jobs.extract` extracts on Ray."""
    plan = plan_extraction(manifest, setup.extract, ClusterConfig())
    write_manifest(plan.store, manifest)
    fetch, detect = Fetch(manifest.root, plan.store), Detect(plan.spec, "cpu", 2, plan.store)
    commit, accounts = Commit(plan.store), []
    for task in plan.feature_set.missing:
        row = part_row(task.name, PlannedPart(task.name, task.photos), {})
        accounts.append(Account.of(Receipt.from_json(commit(detect(fetch(row)))["receipt"])))
    spec = plan.spec
    described = DetectorDescription(extractions.TINY, {}, spec.feature_dim, spec.region_range, spec.class_names, {})
    return publish(plan.published, manifest, plan.fingerprint, described, accounts)
