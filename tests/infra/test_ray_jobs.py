"""Errors of the connection to a cluster; tests/cluster/test_submit.py submits real jobs."""

import socket
from typing import Any

import pytest

from infra import job_log, ray_jobs
from infra.errors import UserError
from tests.support.http_answers import Answer, answering
from tests.support.web_server import ray_head_that_rejects


def test_a_rejected_request_is_an_unreachable_cluster(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job_log, "RECONNECT_DEADLINE_S", 0)
    with ray_head_that_rejects() as address:
        client = ray_jobs.job_client(address)
        for request in (client.list_jobs, lambda: client.stop_job("x")):
            with pytest.raises(ray_jobs.UnreachableError, match=f"{address} is unreachable or rejects .*418"):
                request()
        with pytest.raises(ray_jobs.UnreachableError, match=r"does not respond any more .*418"):
            job_log.follow(client, "x")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(200, "<html>Sign in</html>"), "HTTP 200 with a web page, such as the login page of a proxy"),
        (Answer(502, "<html>Bad gateway</html>"), "HTTP 502 with a web page, such as the login page of a proxy"),
        (Answer(200, "ready", "text/plain"), "its /api/version does not state a version of Ray"),
        (Answer(200, "[]", "application/json"), "its /api/version does not state a version of Ray"),
        (Answer(200, '{"ray_version": "x"}', "application/json"), "its /api/version does not state a version of Ray"),
    ],
    ids=["login page", "gateway", "text", "other JSON", "other version"],
)
def test_a_server_other_than_a_dashboard_is_named(answer: Answer, reason: str):
    with answering(lambda _: answer) as address:
        with pytest.raises(ray_jobs.UnreachableError) as caught:
            ray_jobs.job_client(address)
        assert str(caught.value).startswith(
            f"the Ray cluster at {address} is unreachable or rejects requests ({reason})"
        )


def test_a_command_line_with_a_password_is_an_error():
    client: Any = None  # it is not called
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        ray_jobs.submit(client, "train", ["--tracking.uri=https://me:hunter2@mlflow"])
    assert "hunter2" not in str(caught.value)


def test_a_job_does_not_store_the_password_of_an_address():
    stored = ray_jobs._submit_again("train --features=x", "http://me:hunter2@head:8265")
    assert stored.endswith("submit train --features=x --address http://head:8265")


def test_a_cluster_that_never_responds_is_unreachable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_jobs, "RESPONSE_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ray_jobs.UnreachableError, match=f"{address}.*timed out"):
            ray_jobs.job_client(address)
