"""The run directory of a sweep of version 0.2 in tests/fixtures stays readable, and its format is unchanged."""

import json
import shutil
from pathlib import Path

from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.training.sweeps.sweep import run_sweep
from tests.support import stored_feature_set, stored_sweep

NAME = "m-sweep-edc5113050e9"
"""The run directory that a sweep without files in its space has had since 0.2."""


def test_a_finished_sweep_is_found_by_its_identity(tracking: Tracking, tmp_path: Path):
    features = FeatureSet.open(str(stored_feature_set.FIXTURE))
    shutil.copytree(stored_sweep.FIXTURE, tmp_path / NAME)
    setup = stored_sweep.setup_in(tmp_path)
    trials, best = run_sweep(features, "m", stored_sweep.SPACE, stored_sweep.SWEEP, setup, tracking)
    assert (trials, best) == (stored_sweep.TRIALS, stored_sweep.BEST)
    assert list(trials[0].values) == ["train.margin", "model.gate", "train.seed"]


def test_format_has_not_changed_without_a_new_version(tmp_path: Path):
    """If this fails, raise the format version of run directories."""
    stored_sweep.write_sweep_directory(tmp_path / "written")
    names = {path.name for path in stored_sweep.FIXTURE.iterdir()}
    assert {path.name for path in (tmp_path / "written").iterdir()} == names
    for name in names:
        assert json.loads((tmp_path / "written" / name).read_text()) == json.loads(
            (stored_sweep.FIXTURE / name).read_text()
        ), name
