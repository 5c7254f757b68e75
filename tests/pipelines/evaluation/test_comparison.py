"""The feature sets on which two versions are compared, of one detector or of two."""

from pathlib import Path

import pytest

from infra.errors import UserError
from infra.registry import set_champions
from infra.tracking import Tracking
from pipelines.evaluation.comparison import ComparisonData, own_features, require_features_of_champion
from pipelines.features.feature_set import FeatureSet
from pipelines.features.mlflow_lineage import run_tags
from tests.support.feature_sets import manifest, write_set

OLD, NEW = "made-up-old", "made-up-new"


@pytest.fixture
def old(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path / "old", manifest(tmp_path), fingerprint=OLD)


@pytest.fixture
def new(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path / "new", manifest(tmp_path), fingerprint=NEW)


@pytest.fixture
def champion(tracking: Tracking, old: FeatureSet) -> int:
    """Registers a champion that was trained on the features of the old detector."""
    client, run_id = tracking.client(), tracking.create_run("m", run_tags(old))
    client.create_registered_model("m")
    client.create_model_version("m", "file:///x", run_id, {"fingerprint": OLD})
    set_champions(tracking, "m", [1])
    return 1


def test_versions_of_one_detector_share_the_features(
    tracking: Tracking, champion: int, old: FeatureSet, tmp_path: Path
):
    """Also those of another folder than the champion's."""
    moved = write_set(tmp_path / "moved", manifest(tmp_path), fingerprint=OLD)
    assert ComparisonData(moved).of_champion(tracking, "m", champion) is moved


def test_a_champion_of_another_detector_has_its_own(
    tracking: Tracking, champion: int, old: FeatureSet, new: FeatureSet
):
    assert ComparisonData(new).of_champion(tracking, "m", champion).uri == old.uri


def test_given_features_of_the_champion_are_used(tracking: Tracking, champion: int, new: FeatureSet, tmp_path: Path):
    given = write_set(tmp_path / "given", manifest(tmp_path), fingerprint=OLD)
    assert ComparisonData(new, given).of_champion(tracking, "m", champion) is given


def test_features_that_cannot_be_found_need_an_option(
    tracking: Tracking, champion: int, old: FeatureSet, new: FeatureSet
):
    moved = Path(old.uri).rename(f"{old.uri}-moved")
    fix = r"give the champion's with --champion-features, an option of python -m jobs\.promote and .* jobs\.pipeline$"
    with pytest.raises(UserError, match=fix):
        ComparisonData(new).of_champion(tracking, "m", champion)
    with pytest.raises(UserError, match=fix):
        own_features(tracking, "m", champion, NEW, None)
    assert own_features(tracking, "m", champion, OLD, None) is None  # compared on the challenger's
    given = FeatureSet.open(str(moved))
    assert own_features(tracking, "m", champion, NEW, given) is given


def test_given_features_of_a_third_detector_are_refused(
    tracking: Tracking, champion: int, old: FeatureSet, new: FeatureSet, tmp_path: Path
):
    third = write_set(tmp_path / "third", manifest(tmp_path), fingerprint="made-up-third")
    with pytest.raises(UserError, match=f"for features of {OLD}, but --champion-features .* made-up-third; give"):
        ComparisonData(new, third).of_champion(tracking, "m", champion)
    # After a promotion, the champion has the challenger's detector: the same command indexes its features.
    assert ComparisonData(old, third).of_champion(tracking, "m", champion) is old
    with pytest.raises(UserError, match=r"--champion-features .* made-up-third; give"):  # jobs.promote refuses it
        require_features_of_champion(tracking, "m", third)
    require_features_of_champion(tracking, "without a champion", third)


def test_photos_are_compared_before_a_training(tracking: Tracking, champion: int, old: FeatureSet, tmp_path: Path):
    more = write_set(tmp_path / "more", manifest(tmp_path, 12), fingerprint=NEW)
    with pytest.raises(UserError, match="first other photo p10; add --intersect to compare on those 1"):
        ComparisonData(more).check(tracking, "m", "val")
    ComparisonData(more, intersect=True).check(tracking, "m", "val")
    ComparisonData(more).check(tracking, "without a champion", "val")
    ComparisonData(write_set(tmp_path / "moved", manifest(tmp_path, 12), fingerprint=OLD)).check(tracking, "m", "val")
