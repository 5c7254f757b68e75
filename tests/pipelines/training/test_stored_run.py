"""The run directory of version 0.2 in tests/fixtures stays readable, and its format is unchanged."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from infra.errors import LeaseLostError
from pipelines.training.checkpoint import read_progress, read_validation
from pipelines.training.identity import directory_name, settings_identity
from pipelines.training.run_directory import RunDirectory, open_run_directory
from pipelines.training.stored_progress import stored_progress
from pipelines.training.train import TrainedModel
from shan_model.bundle import load_bundle
from tests.support import stored_run

CHECKPOINT = "epoch-001-lease-000001"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    """A copy of the fixture."""
    shutil.copytree(stored_run.FIXTURE, tmp_path / "m-0123456789ab")
    return open_run_directory(str(tmp_path), "m-0123456789ab")


def test_run_and_lease_are_read(directory: RunDirectory):
    assert directory.run_id() == stored_run.RUN_ID
    assert directory.is_claimed()
    lease = directory.acquire_lease()
    assert lease.token == 2
    directory.acquire_lease()
    with pytest.raises(LeaseLostError):
        lease.require()


def test_result_is_read(directory: RunDirectory):
    result = directory.result(TrainedModel.parse)
    assert result is not None
    assert result == stored_run.RESULT


def test_identity_names_the_same_directory():
    """The identity that the settings have today still has the stored hash."""
    stored = json.loads((stored_run.FIXTURE / "run.json").read_text())["identity"]
    today = stored | settings_identity(stored_run.SETUP)
    assert today == stored
    assert directory_name("m", stored) == "m-537204e329c5"


def test_progress_is_found_by_the_record_of_ray_train(directory: RunDirectory):
    progress = stored_progress(directory)
    assert (progress.step, progress.validated, progress.best_epoch, progress.best_rsum) == (2, 1, 1, 123.5)
    assert progress.validations() == [(1, 123.5)]
    assert progress == read_progress(stored_run.FIXTURE / CHECKPOINT)
    assert not progress.is_finished(stored_run.SETUP.train)


def test_training_resumes_from_the_checkpoint():
    checkpoint = stored_run.FIXTURE / CHECKPOINT
    state = stored_run.new_state(seed=1)
    state.load(checkpoint)
    for name, tensor in load_bundle(checkpoint).state_dict().items():
        assert torch.equal(state.evaluation_model.state_dict()[name], tensor), name
    uninterrupted = stored_run.new_state()
    losses = stored_run.train(uninterrupted, 4)
    assert stored_run.train(state, 2) == pytest.approx(losses[2:], rel=1e-4)
    for name, parameter in uninterrupted.shan.state_dict().items():
        assert torch.allclose(state.shan.state_dict()[name], parameter, atol=1e-4), name
    assert read_validation(checkpoint)["image_to_text"] == [50, 100]


def test_format_has_not_changed_without_a_new_version(tmp_path: Path):
    """Names of files, fields and tensors are those of the fixture. If this fails, raise the format version.

    Only the configuration of the model may have new fields.
    """
    stored_run.write_run_directory(tmp_path / "written")
    written, stored = layout(tmp_path / "written"), layout(stored_run.FIXTURE)
    config = f"{CHECKPOINT}/config.json"
    assert set(written.pop(config)) >= set(stored.pop(config))
    assert written == stored


def layout(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            found[name] = {key: (tensor.dtype, tensor.shape) for key, tensor in load_file(path).items()}
        else:
            content = json.loads(path.read_text())
            found[name] = sorted(content) if isinstance(content, dict) else content
    return found
