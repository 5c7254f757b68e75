"""Errors of the connection to a cluster; tests/cluster/test_submit.py submits real jobs."""

import socket
from typing import Any

import pytest

from infra import ray_jobs
from infra.errors import UserError


def test_a_closed_output_pipe_is_not_an_unreachable_cluster(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_jobs, "_connect", lambda address: None)

    def print_on() -> None:
        with ray_jobs.job_client("http://127.0.0.1:8265"):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        print_on()


def test_a_command_line_with_a_password_is_an_error():
    client: Any = None  # it is not called
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        ray_jobs.submit(client, "train", ["--tracking.uri=https://me:hunter2@mlflow"])
    assert "hunter2" not in str(caught.value)


def test_a_cluster_that_never_responds_is_unreachable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_jobs, "RESPONSE_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ray_jobs.UnreachableError, match=f"{address}.*timed out"), ray_jobs.job_client(address):
            pass
