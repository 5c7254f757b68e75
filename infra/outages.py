"""Outages of a store: an error that states how to continue, or a warning."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import StorageError
from infra.log import log
from infra.tracking_errors import reason_of

_SHORT_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""For requests whose failure must show within seconds; MLflow retries for minutes by default."""


@contextmanager
def after_outage(message: str) -> Iterator[None]:
    """Adds `message`, how to continue, to a StorageError of the body, from MLflow or an object store."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{error}; {message}") from error


@contextmanager
def outage_as_warning(consequence: str) -> Iterator[None]:
    """Turns an exception of the body, which calls MLflow, into a warning of its consequence, within seconds."""
    before = {name: os.environ.get(name) for name in _SHORT_TIMEOUTS}
    os.environ.update(_SHORT_TIMEOUTS)
    try:
        yield
    except Exception as error:  # noqa: BLE001 - MLflow, SQLAlchemy, requests and object stores raise their own types
        log.warning("%s (%s)", consequence, reason_of(error), extra={"event": "tracking_outage"})
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
