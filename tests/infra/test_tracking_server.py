"""Addresses that are not an MLflow server which accepts this client: each has its own message, within seconds."""

import json
import re
import time

import pytest

from infra.errors import StorageError, UserError
from infra.tracking import TrackingConfig, connect
from tests.support.http_answers import Answer, answering

PAGE = "<html><title>Log in</title></html>"
JSON = "application/json"
MISSING = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Could not find experiment"})


def error_of(uri: str) -> str:
    """Returns the message with which a connection fails: one line, within seconds."""
    start = time.monotonic()
    with pytest.raises((UserError, StorageError)) as caught:
        connect(TrackingConfig(uri=uri))
    assert time.monotonic() - start < 15
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(401, PAGE), r"rejects the credentials \(HTTP 401\); set MLFLOW_TRACKING_USERNAME and"),
        (Answer(401, '{"message": "Unauthorized"}', JSON), r"rejects the credentials \(HTTP 401\)"),
        (Answer(403, "Invalid Host header"), r"denies the request \(HTTP 403\); add this host name to --allowed-hosts"),
        (Answer(404, PAGE), r"is not an MLflow server: it answers with a web page \(HTTP 404\); give the server's own"),
        (Answer(404, '{"detail": "Not Found"}', JSON), r"is not an MLflow server: .* other JSON \(HTTP 404\)"),
        (Answer(200, PAGE), r"is not an MLflow server: .* a web page \(HTTP 200\);.* MLFLOW_TRACKING_TOKEN"),
        (Answer(200, "{}", JSON), r"is not an MLflow server: it answers with other JSON \(HTTP 200\)"),
        (Answer(200, '{"experiment": 3}', JSON), "is not an MLflow server"),
        (Answer(200, MISSING, JSON), r"is not an MLflow server: it answers with other JSON \(HTTP 200\)"),
        (Answer(200, "[]", JSON), "is not an MLflow server"),
        (Answer(200, "", "text/plain"), r"is not an MLflow server: it answers with text/plain \(HTTP 200\)"),
        (Answer(400, "plain HTTP request was sent to HTTPS port"), r"is not an MLflow server: .* \(HTTP 400\)"),
        (Answer(429, headers={"retry-after": "3600"}), r"fails \(HTTP 429\); read the log of the server"),
        (Answer(500, "boom"), r"fails \(HTTP 500\)"),
        (Answer(503, PAGE, headers={"retry-after": "3600"}), r"fails \(HTTP 503\)"),
    ],
)
def test_each_wrong_response_has_a_message_with_the_fix(answer: Answer, problem: str):
    with answering(lambda _: answer) as uri:
        assert re.search(rf"^tracking.uri {uri} {problem}", error_of(uri))


def test_a_redirect_to_a_login_page_names_the_page():
    def answer(path: str) -> Answer:
        return Answer(200, PAGE) if path.startswith("/login") else Answer(302, headers={"location": "/login?next=x"})

    with answering(answer) as uri:
        assert f"a web page (HTTP 200, redirected to {uri}/login)" in error_of(uri)


def test_the_address_of_a_page_is_not_a_server(mlflow_uri: str):
    assert "answers with a web page (HTTP 200)" in error_of(f"{mlflow_uri}/#/experiments/1")
    assert "is not an MLflow server" in error_of(f"{mlflow_uri}/ajax")


def test_a_server_of_mlflow_2_cannot_store_models():
    def answer(path: str) -> Answer:
        return Answer(200, "2.22.1", "text/plain") if path == "/version" else Answer(404, MISSING, JSON)

    with answering(answer) as uri:
        assert "runs MLflow 2.22, which cannot store models of MLflow 3; upgrade the server" in error_of(uri)


def test_https_for_a_server_without_tls():
    with answering(lambda _: Answer()) as uri:
        message = error_of(uri.replace("http://", "https://"))
    assert "has no TLS connection to this client" in message
    assert "write http:// for a server without TLS" in message


def test_a_host_that_does_not_exist():
    assert re.search(r"is unreachable \(.*\); start the server or correct", error_of("http://host.invalid:5000"))


def test_artifacts_in_a_folder_of_the_server_are_an_error(mlflow_uri: str):
    """MLflow would write models into that folder of this machine, where the server and other machines have nothing."""
    client = connect(TrackingConfig(uri=mlflow_uri)).client()
    client.create_experiment("local artifacts", artifact_location="/nowhere/mlruns/5")
    with pytest.raises(
        UserError, match=r"'local artifacts' .* keeps artifacts in /nowhere/mlruns, which does not exist"
    ):
        connect(TrackingConfig(uri=mlflow_uri, experiment="local artifacts"))


def test_shared_folder_of_artifacts_is_accepted(mlflow_uri: str, tmp_path):
    client = connect(TrackingConfig(uri=mlflow_uri)).client()
    created = client.create_experiment("shared artifacts", artifact_location=f"{tmp_path}/6")
    assert connect(TrackingConfig(uri=mlflow_uri, experiment="shared artifacts")).experiment_id == created
