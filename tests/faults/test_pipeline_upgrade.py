"""`jobs.pipeline` from photos to the champion, repeated, then with another detector, and back."""

from pathlib import Path

import mlflow
import pandas as pd
import pytest

from infra.registry import champion_version
from infra.tracking import Tracking, TrackingConfig, connect
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.generate import generate
from pipelines.features.feature_set import FeatureSet
from pipelines.search.index_format import IndexDocument
from tests.support.commands import run_command

SCENES = ScenesConfig(train=64, val=48, test=16, seed=5)
TRAINING = [
    "--train.epochs=1", "--train.learning_rate=1e-6", "--train.batch_size=16", "--train.num_workers=1",
    "--model.joint_dim=16", "--model.word_dim=8", "--promote.split=val", "--cluster.local_object_store_mb=200",
]  # fmt: skip
OTHER_DETECTOR = ["--extract.detector_settings={lite2_side: 260}", "--train.epochs=16", "--train.learning_rate=3e-3"]
"""Another detector, and a training that learns more than the first one."""


@pytest.fixture(scope="module")
def upgrade(tmp_path_factory: pytest.TempPathFactory) -> "Upgrade":
    folder = tmp_path_factory.mktemp("pipeline")
    dataset = generate(SCENES, folder / "scenes")
    return Upgrade(folder, ["jobs.pipeline", f"--dataset={dataset}", f"--photos={folder}/scenes/photos", "--name=m"])


class Upgrade:
    """A folder in which `jobs.pipeline` runs repeatedly, at last with another detector."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder, self._command = folder, [*command, *TRAINING]

    def run(self, *options: str) -> tuple[str, str]:
        """Returns the plan that the command printed, and what it printed after it."""
        plan, _, rest = run_command(self.folder, *self._command, *options).partition("\n\n")
        return plan, rest

    @property
    def tracking(self) -> Tracking:
        return connect(TrackingConfig(uri=f"sqlite:///{self.folder}/build/mlflow/mlflow.db"))

    def champion_scores(self) -> list[float]:
        """Returns the scores of two photos by the champion, loaded by its name in MLflow."""
        mlflow.set_tracking_uri(self.tracking.uri)
        photos = sorted((self.folder / "scenes" / "photos").iterdir())[:2]
        frame = pd.DataFrame({"image": list(map(str, photos)), "caption": ["a red bus", "a dog"]})
        return list(mlflow.pyfunc.load_model("models:/m@champion").predict(frame))

    def fingerprint(self) -> str:
        """Returns the fingerprint of the detector that the champion carries."""
        mlflow.set_tracking_uri(self.tracking.uri)
        return str(mlflow.models.get_model_info("models:/m@champion").metadata["fingerprint"])


@pytest.mark.long  # 3 minutes; the demo runs the same stages once
def test_detector_upgrade_and_rollback(upgrade: Upgrade):
    plan, rest = upgrade.run("--dry-run")
    assert "  extract   128 photos to detect; 0 of " in plan
    assert "  promote   if it is better than the random baseline, on split 'val'" in plan
    assert "hours" in rest
    assert not (upgrade.folder / "build").exists()

    _, rest = upgrade.run("--until=extract")
    assert "[1/1] regions of 128 photos" in rest
    assert "on Ray Train" not in rest
    assert [path.name for path in (upgrade.folder / "build").iterdir()] == ["features"]

    plan, rest = upgrade.run()
    assert plan.splitlines()[1].startswith("  extract   done, ")
    assert "[4/4] the better version becomes champion" in rest
    assert champion_version(upgrade.tracking, "m") == 1
    first, scores = upgrade.fingerprint(), upgrade.champion_scores()

    before = {path: path.stat().st_mtime_ns for path in upgrade.folder.glob("build/*/*/*") if path.is_file()}
    plan, rest = upgrade.run()
    assert [text.split(maxsplit=1)[1].split(",")[0] for text in plan.splitlines()[1:]] == ["done"] * 4
    assert "0 detected now" in rest
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(upgrade.tracking.client().search_model_versions("name = 'm'")) == 1

    plan, rest = upgrade.run(*OTHER_DETECTOR)
    assert "  extract   128 photos to detect" in plan
    assert "  promote   if it is better than the champion, version 1, on split 'val'" in plan
    assert champion_version(upgrade.tracking, "m") == 2, rest
    old, new = sorted(upgrade.folder.glob("build/features/*/index.json"), key=lambda path: path.stat().st_mtime)
    tags = upgrade.tracking.client().get_model_version("m", "2").tags
    assert tags["promotion.feature_set"] == FeatureSet.open(str(new.parent)).pinned_uri
    assert tags["promotion.champion_feature_set"] == FeatureSet.open(str(old.parent)).pinned_uri
    assert upgrade.fingerprint() == tags["promotion.fingerprint"] != first
    assert upgrade.champion_scores() != scores

    run_command(upgrade.folder, "jobs.promote", "--name=m", "--rollback=worse at night")
    assert (champion_version(upgrade.tracking, "m"), upgrade.fingerprint()) == (1, first)
    assert upgrade.champion_scores() == scores
    plan, rest = upgrade.run(*OTHER_DETECTOR, "--until=index")  # the decision of a person stands
    assert "done, models:/m@champion is version 1: version 2 was rolled back (worse at night)" in plan
    assert champion_version(upgrade.tracking, "m") == 1
    (index,) = upgrade.folder.glob("build/indexes/*/index.json")
    document = IndexDocument.from_json(index.read_bytes())
    assert (document.model.uri, document.model.fingerprint) == ("models:/m/1", first)
    assert [features.uri for features in document.features] == [FeatureSet.open(str(old.parent)).pinned_uri]
