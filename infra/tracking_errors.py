"""Translates the errors of a tracking store that fails or refuses a request into one line with the fix.

MLflow raises MlflowException for these and for everything else, such as a run that does not exist; that passes
unchanged. Its clients of artifact stores let errors of requests, botocore and the file system through.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.errors import StorageError
from infra.notice import notice
from infra.redaction import redact

NOTICE_S = 10.0
"""Seconds after which a line names the store that is waited for; MLflow retries for some minutes."""
_UNAUTHENTICATED = {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_TRANSPORT = "API request to"
"""Start of MLflow's messages about requests without a valid response."""
_CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


class TrackingError(StorageError):
    """A tracking store that fails or refuses a request."""

    error_code = ""
    """MLflow's code, if its exception has one."""


@contextmanager
def explained(uri: str, transfer: str = "") -> Iterator[None]:
    """Raises TrackingError for a store at `uri` that fails, does not respond, or refuses the request.

    `transfer` describes work that may take long with a store that answers.
    """
    store = f"tracking.uri {redact(uri)}"
    line = f"waiting for {store}, which has not answered for {NOTICE_S:.0f} s"
    if transfer:
        line = f"{transfer} {store} takes more than {NOTICE_S:.0f} s; waiting"
    try:
        with notice(line, NOTICE_S):
            yield
    except Exception as error:
        if (problem := _problem(error)) is None:
            raise
        found = TrackingError(f"tracking.uri {redact(uri)} {problem}")
        found.error_code = getattr(error, "error_code", "")
        raise found from error


def refusal(status: int) -> str | None:
    """Returns what an HTTP status implies about the server, and the fix; None if it implies nothing."""
    if status == 401:
        return f"rejects the credentials (HTTP 401); {_CREDENTIALS}"
    if status == 403:
        return (
            "denies the request (HTTP 403); add this host name to --allowed-hosts of the server, or if a user lacks "
            f"permission, grant it or {_CREDENTIALS}"
        )
    if status == 429 or status >= 500:
        return f"fails (HTTP {status}); read the log of the server or of the proxy before it, and try again"
    return None


def _problem(error: Any) -> str | None:
    """Returns what is wrong with the store and the fix, or None for an error that is not about the store."""
    from mlflow.exceptions import InvalidUrlException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(error, StorageError):  # explained already
        return None
    if isinstance(error, InvalidUrlException):
        return "is not a URL of a server; correct tracking.uri, for instance to http://host:5000"
    code = getattr(error, "error_code", "")
    if code in _UNAUTHENTICATED:
        return refusal(401)
    if code == "PERMISSION_DENIED":
        return refusal(403)
    if code == "ENDPOINT_NOT_FOUND":
        return f"lacks a request of MLflow's API ({reason_of(error)}); upgrade the server to this client's version"
    if isinstance(error, SQLAlchemyError) or isinstance(error.__cause__, SQLAlchemyError):
        return f"fails ({reason_of(error)}); free its disk or end the process that has locked it, and try again"
    if type(error).__module__.partition(".")[0] in ("boto3", "botocore"):
        # Their texts may contain credentials. boto3 wraps the error of an upload.
        cause = error.__context__ if type(error).__name__ == "S3UploadFailedError" else error
        reason = getattr(cause, "response", {}).get("Error", {}).get("Code") or type(cause).__name__
        return f"has artifacts in S3, which fails ({reason}); check AWS_ENDPOINT_URL and the AWS credentials"
    if isinstance(error, OSError) and error.errno is not None:
        return f"has artifacts that cannot be read or written ({error.strerror}: {error.filename}); correct that"
    if isinstance(error, RequestException) or str(error).startswith(_TRANSPORT):
        return _transport_problem(error)
    return None


def _transport_problem(error: Any) -> str | None:
    """Returns the problem behind an error of requests, or behind MLflow's error that wraps it."""
    response = getattr(error, "response", None)
    if response is not None:
        return refusal(response.status_code)
    reason = reason_of(error)
    if repeated := re.fullmatch(r"too many (\d{3}) error responses", reason):  # the retries of urllib3
        return refusal(int(repeated[1]))
    if "SSL" in reason:
        return (
            f"has no TLS connection to this client ({reason}); write http:// for a server without TLS, or set "
            "MLFLOW_TRACKING_SERVER_CERT_PATH to the file of its certificate"
        )
    return f"is unreachable ({reason}); start the server or correct tracking.uri"


def reason_of(error: BaseException) -> str:
    """Returns the first line of the cause that MLflow, requests and urllib3 wrap, without address and credentials."""
    cause: Any = error
    for inner in (error.__cause__, error.__context__, error):
        if isinstance(inner, OSError) and inner.args:  # an error of requests has one of urllib3 as its argument
            cause = inner.args[0]
            break
    text = str(getattr(cause, "reason", None) or cause).strip() or type(cause).__name__
    text = re.sub(r"^<?HTTPS?Connection(Pool)?\(.*?\)>?: ", "", text.splitlines()[0])
    return redact(text)[:160]
