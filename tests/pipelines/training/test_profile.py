"""Profiles of steps and of a GPU's memory. `tests/e2e/test_train_options.py` profiles a training."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.tracking import Tracking
from pipelines.training.profile import WARMUP_STEPS, profiled, write_memory

CPU = torch.device("cpu")


class Lost:
    """The lease of a training that another process drives."""

    def __init__(self, lost: bool) -> None:
        self.is_lost = lambda: lost


def profile_steps(tracking: Tracking, steps: int, *, done: int, lost: bool = False) -> list[str]:
    """Profiles `steps` of the `done` steps of a body. Returns the names of the run's artifacts."""
    run = tracking.create_run("profiled", {})
    with profiled(steps, 100, CPU, tracking, run, Lost(lost)) as after_step:  # type: ignore[arg-type]
        for _ in range(done):
            torch.ones(8, 8) @ torch.ones(8, 8)
            after_step()
    return [file.path.partition("/")[2] for file in tracking.client().list_artifacts(run, "profile")]


def test_steps_after_the_warm_up_are_profiled_once(tracking: Tracking):
    names = ["operators-from-step-000106.txt", "trace-from-step-000106.json.gz"]
    assert profile_steps(tracking, 2, done=WARMUP_STEPS + 9) == names
    assert profile_steps(tracking, 9, done=WARMUP_STEPS + 2) == names  # as many as there are
    assert profile_steps(tracking, 2, done=WARMUP_STEPS + 9, lost=True) == []
    assert profile_steps(tracking, 0, done=9) == []


def test_a_profile_without_steps_is_a_warning(tracking: Tracking, capsys: pytest.CaptureFixture[str]):
    assert profile_steps(tracking, 2, done=3) == []
    assert "warning: train.profile_steps has no effect" in capsys.readouterr().err


def test_a_store_that_fails_costs_the_profile_only(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = tracking.create_run("profiled", {})
    away = Tracking("http://127.0.0.1:9", tracking.experiment_id)
    with profiled(1, 0, CPU, away, run, Lost(lost=False)) as after_step:  # type: ignore[arg-type]
        for _ in range(WARMUP_STEPS + 2):
            after_step()
    assert "warning: the profile could not be logged" in capsys.readouterr().err


def test_memory_is_json_and_a_table_of_segments(tmp_path: Path):
    """The snapshot has the fields that torch documents; no GPU was available to take one."""
    mib = 2**20
    block: dict[str, Any] = {"size": 30 * mib, "requested_size": 30 * mib, "state": "active_allocated", "frames": []}
    free = {"size": 10 * mib, "requested_size": 0, "state": "inactive", "frames": []}
    segment = {"total_size": 40 * mib, "stream": 0, "address": 1, "blocks": [block, free]}
    write_memory({"segments": [segment], "device_traces": []}, tmp_path, 1)
    with gzip.open(tmp_path / "memory-rank-1.json.gz", "rt") as file:
        assert json.load(file)["segments"] == [segment]
    assert "total_allocated: 30.0MiB" in (tmp_path / "memory-rank-1.txt").read_text()
