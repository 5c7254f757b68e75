"""A store that is unreachable, in the moment of an error and elsewhere."""

import socket
import time

import pytest
from mlflow.exceptions import MlflowException

from infra.errors import StorageError
from infra.outages import after_outage
from infra.tracking import Tracking


@pytest.fixture
def unreachable() -> Tracking:
    """A server that does not run."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return Tracking(f"http://user:secret@127.0.0.1:{unused.getsockname()[1]}", "0")


def store_is_unreachable() -> bool:
    raise StorageError("s3://b: GetObject failed")


def test_outage_does_not_hide_the_original_error(
    tracking: Tracking, unreachable: Tracking, capsys: pytest.CaptureFixture[str]
):
    run_id = tracking.create_run("five", {})
    with pytest.raises(ZeroDivisionError), tracking.closing(run_id, store_is_unreachable):
        1 / 0  # noqa: B018
    start = time.monotonic()
    with pytest.raises(ZeroDivisionError), unreachable.closing(run_id):
        1 / 0  # noqa: B018
    assert time.monotonic() - start < 30
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"warning: run {run_id} could not be set to FAILED (s3://b: GetObject failed)"
    assert second.startswith(f"warning: run {run_id} could not be set to FAILED (tracking.uri http://127.0.0.1:")
    assert "secret" not in second


def test_outage_error_states_how_to_continue(unreachable: Tracking, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StorageError) as caught, after_outage("re-run the command"):
        unreachable.client().get_run("0123")
    said = str(caught.value)
    assert said.startswith("tracking.uri http://127.0.0.1:")
    assert "is unreachable" in said
    assert said.endswith("; re-run the command")
    assert "secret" not in said
    assert "\n" not in said


def test_a_wrong_request_is_not_an_outage(tracking: Tracking):
    with pytest.raises(MlflowException), after_outage("re-run the command"):
        tracking.client().get_run("0123")
