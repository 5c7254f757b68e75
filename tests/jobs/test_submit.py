"""What `jobs.submit` packs, what it refuses, and how long it waits; the rest is in tests/e2e/test_submit.py."""

import socket
import subprocess
from typing import Any

import pytest

from infra.errors import UserError
from jobs import submit
from tests.drills.processes import ROOT


def test_the_code_travels_and_nothing_else():
    listed = subprocess.run(
        ["git", "ls-files", *submit.PACKED], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    with submit._packed() as folder:
        packed = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(listed) <= packed
    assert {path.partition("/")[0] for path in packed} == {"infra", "jobs", "pipelines", "shan_model"}
    assert not any("__pycache__" in path or ".git/" in path for path in packed)


def test_a_command_line_with_a_password_is_not_submitted():
    client: Any = None  # nothing is asked of it
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        submit.submit(client, "train", ["--tracking.uri=https://me:hunter2@mlflow"])
    assert "hunter2" not in str(caught.value)


def test_a_cluster_that_takes_connections_and_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(submit, "ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(submit.UnreachableError, match=f"{address}.*timed out"), submit.cluster(address):
            pass
