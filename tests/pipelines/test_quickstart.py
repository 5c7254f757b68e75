"""The quickstart's data set and the lines that it prints at its end. `tests/e2e/test_quickstart.py` runs it."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.tracking import Tracking
from pipelines import quickstart
from pipelines.datasets.scenes.config import ScenesConfig
from tests.support.feature_sets import manifest, write_set


def test_rendered_scenes_are_known_before_they_are_drawn():
    data = quickstart._rendered(ScenesConfig(train=24, val=8, test=8))
    assert (data.name, data.subject) == ("scenes", "scenes.train=24")
    assert data.captions_per_photo.tolist() == [5] * 24


def test_scenes_of_other_settings_have_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    config = ScenesConfig(train=4, val=2, test=2)
    first, again = quickstart._render_scenes(config), quickstart._render_scenes(config)
    assert first.table.num_rows == 8
    assert (first.name, again.digest()) == ("scenes", first.digest())
    other = quickstart._render_scenes(replace(config, seed=config.seed + 1))
    assert Path(other.root).parent != Path(first.root).parent
    assert len(list(tmp_path.glob("build/scenes/*"))) == 2


def test_the_command_for_the_runs_of_a_file_can_be_pasted(tracking: Tracking, tmp_path: Path):
    program, *options = shlex.split(quickstart._mlflow_command(tracking))
    assert os.access(program, os.X_OK)
    assert options == ["ui", "--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]


@pytest.mark.long
def test_a_search_that_fails_is_an_error_without_a_traceback(tracking: Tracking, tmp_path: Path, capfd):
    features = write_set(tmp_path, manifest(tmp_path))
    with pytest.raises(UserError, match="the search, the last stage, ended with exit code 2; fix the error above"):
        quickstart._search_in_fresh_process("models:/none/1", features, tracking)
    assert capfd.readouterr().err.splitlines()[-1].startswith("error: models:/none/1")


def test_the_address_of_a_server_is_printed_without_its_password(tracking: Tracking):
    served = replace(tracking, uri="http://user:secret@host:5000")
    shown = quickstart._mlflow_command(served)
    assert "host:5000" in shown
    assert "secret" not in shown
