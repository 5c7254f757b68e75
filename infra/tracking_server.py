"""Checks that an HTTP address is an MLflow server which this client can use, before any work begins."""

import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from infra.errors import UserError
from infra.paths import is_dir
from infra.redaction import redact
from infra.tracking_errors import TrackingError, explained, refusal

if TYPE_CHECKING:
    from requests import Response

OLDEST = "3.0"
"""Oldest server that can store models: MLflow 3 keeps them apart from the artifacts of runs."""
TIMEOUT_S = (5, 30)
"""Seconds to wait for a connection, and then for bytes: the first request to a server that has just started is slow."""
_PROBE = "/api/2.0/mlflow/experiments/get-by-name"


def require_server(uri: str, experiment: str) -> None:
    """Raises UserError or TrackingError, with the fix, unless an MLflow server at `uri` accepts requests."""
    from packaging.version import Version

    with explained(uri):
        response = _get(uri, _PROBE, experiment_name=experiment)
        release = _get(uri, "/version").text
    shown = f"tracking.uri {redact(uri)}"
    if (problem := refusal(response.status_code)) is not None:
        raise TrackingError(f"{shown} {problem}")
    if not _is_mlflow(response):
        raise UserError(
            f"{shown} is not an MLflow server: it answers with {_described(response)}; give the server's own address, "
            "http://host:port without the path of a page, and if a login page protects it, set MLFLOW_TRACKING_TOKEN"
        )
    version = re.match(r"\d+\.\d+", release)
    if version and Version(version[0]) < Version(OLDEST):
        raise UserError(f"{shown} runs MLflow {version[0]}, which cannot store models of MLflow 3; upgrade the server")


def require_artifact_root(experiment: str, location: str) -> None:
    """Raises UserError if a server's experiment keeps its artifacts in a folder that this machine does not have.

    MLflow would create the folder here, where no other machine finds the models. `experiment` is its name in messages.
    """
    from mlflow.utils.file_utils import local_file_uri_to_path

    if urlsplit(location).scheme in ("", "file"):
        root = Path(local_file_uri_to_path(location)).parent
        if not is_dir(root):
            raise UserError(
                f"{experiment} keeps artifacts in {root}, which does not exist on this machine; start the server "
                "with --artifacts-destination and set another tracking.experiment, or mount that folder"
            )


def _get(uri: str, endpoint: str, **parameters: str) -> "Response":
    """Returns a response of any status. The request has MLflow's credentials, but not its retries over minutes."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    return http_request(
        get_default_host_creds(uri),
        endpoint,
        "GET",
        max_retries=0,
        timeout=TIMEOUT_S,
        raise_on_status=False,
        respect_retry_after_header=False,
        params=parameters,
    )


def _is_mlflow(response: "Response") -> bool:
    """Returns whether a response to the probe is MLflow's: an experiment, or an error with a code."""
    try:
        document: Any = response.json()
    except ValueError:
        return False
    if not isinstance(document, dict):
        return False
    if response.status_code != HTTPStatus.OK:
        return "error_code" in document
    experiment = document.get("experiment")
    return isinstance(experiment, dict) and "experiment_id" in experiment


def _described(response: "Response") -> str:
    kind = response.headers.get("content-type", "").partition(";")[0]
    text = {"text/html": "a web page", "application/json": "other JSON"}.get(kind, kind or "no content type")
    moved = f", redirected to {redact(response.url.partition('?')[0])}" if response.history else ""
    return f"{text} (HTTP {response.status_code}{moved})"
