"""A tracking store that fails after the connection has succeeded: one line with the fix, on real servers and files."""

import sys
from pathlib import Path

import pytest

from infra import tracking_errors
from infra.registry import champion_version
from infra.tracking import Tracking, TrackingConfig, connect
from infra.tracking_errors import TrackingError
from tests.support.faulty_proxy import BUSY, CUT_BEFORE, CUT_BODY, faulty_proxy
from tests.support.http_answers import Answer, answering
from tests.support.processes import wait_until


@pytest.fixture(autouse=True)
def _no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow retries for some minutes."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (CUT_BEFORE, r"is unreachable \(.+\); start the"),
        (BUSY, r"fails \(HTTP 503\); read the log of the server"),
        (CUT_BODY, r"is unreachable \(.+\); start the"),
    ],
)
def test_a_server_that_fails_is_not_taken_for_an_empty_one(mlflow_uri: str, fault: str, problem: str):
    with faulty_proxy(mlflow_uri) as proxy:
        tracking = connect(TrackingConfig(uri=proxy.endpoint, experiment="outage"))
        proxy.always(fault)
        with pytest.raises(TrackingError, match=rf"^tracking\.uri {proxy.endpoint} {problem}"):
            tracking.create_run("one", {})
        with pytest.raises(TrackingError, match=problem):
            tracking.require_run("0123")  # not "has no run"
        proxy.always(None)
        assert champion_version(tracking, "outage") is None


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(401), "rejects the credentials"),
        (Answer(403), "denies the request"),
        (Answer(404, "<html>"), "lacks a request of MLflow's API"),
        (Answer(500), r"fails \(HTTP 500\); read the log of the server"),
        (Answer(200, "<html>"), "is unreachable"),
    ],
)
def test_other_answers_than_those_of_the_server(answer: Answer, problem: str):
    with answering(lambda _: answer) as uri, pytest.raises(TrackingError, match=f"^tracking.uri {uri} {problem}"):
        Tracking(uri, "0").create_run("one", {})


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5OOO", "http://127.0.0.1:99999", "http:///x", "http://[::1"])
def test_an_invalid_url_is_one_line(uri: str):
    with pytest.raises(TrackingError, match=r"^tracking\.uri http\S+ is not a URL of a server; correct tracking\.uri"):
        connect(TrackingConfig(uri=uri))


def test_a_silent_store_is_named_while_a_command_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(tracking_errors, "NOTICE_S", 0.2)

    def late(_: str) -> Answer:
        wait_until(lambda: "waiting for" in sys.stderr.getvalue(), timeout_s=60)
        return Answer(401)

    with answering(late) as uri, pytest.raises(TrackingError, match="rejects the credentials"):
        Tracking(uri, "0").create_run("one", {})
    assert capsys.readouterr().err == f"waiting for tracking.uri {uri}, which has not answered for 0 s\n"


def test_a_long_transfer_is_not_reported_as_an_outage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(tracking_errors, "NOTICE_S", 0.0)
    with tracking_errors.explained("http://host", "downloading the model from"):
        wait_until(lambda: "waiting" in sys.stderr.getvalue(), timeout_s=60)
    said = "downloading the model from tracking.uri http://host takes more than 0 s; waiting\n"
    assert capsys.readouterr().err == said


def test_errors_that_are_not_of_the_store_pass_unchanged(tracking: Tracking):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        tracking.client().get_registered_model("nobody")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_a_file_that_breaks_meanwhile(tracking: Tracking, capfd: pytest.CaptureFixture[str]):
    file = Path(tracking.uri.removeprefix("sqlite:///"))
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(TrackingError, match=r"^tracking\.uri sqlite:.* fails \(\(sqlite3\."):
        tracking.create_run("one", {})
    assert "Traceback" not in capfd.readouterr().err


def test_artifacts_that_cannot_be_stored(tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_id = tracking.create_run("one", {})
    (tmp_path / "artifacts").write_text("a file in place of the folder")
    with pytest.raises(TrackingError, match=r"has artifacts that cannot be read or written \(.*artifacts"):
        tracking.client().log_text(run_id, "text", "a.txt")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    tracking.client().create_experiment("s3", artifact_location="s3://bucket/prefix")
    in_s3 = connect(TrackingConfig(uri=tracking.uri, experiment="s3"))
    with pytest.raises(TrackingError, match=r"has artifacts in S3, which fails \(\w+\); check AWS_ENDPOINT_URL"):
        in_s3.client().log_text(in_s3.create_run("two", {}), "text", "a.txt")
