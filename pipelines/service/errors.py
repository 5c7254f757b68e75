"""Errors of the service, as clients receive them: a status, the field, its value, and a message with the fix."""

import asyncio
import reprlib
from typing import Any

from infra.errors import StorageError, UserError
from pipelines.service.calls import lost_process

MAX_NUMBER = 1e15
"""Numbers from here on are repeated as text, as are those that are not finite."""
MAX_SHOWN = 100
"""Characters of a value that an error repeats."""


class ServiceError(Exception):
    """An error with its HTTP status."""

    def __init__(
        self, status: int, message: str, field: str | None = None, value: Any = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(status, message, field, value, retry_after_s)
        self.status, self.message, self.retry_after_s = status, _encodable(message), retry_after_s
        self.field, self.value = None if field is None else shown(field), shown(value)

    def __str__(self) -> str:
        return self.message

    def document(self, request_id: str | None = None) -> dict[str, Any]:
        """Returns the body of the response. The id finds the request in the logs of the service's processes."""
        return {"field": self.field, "value": self.value, "message": self.message, "request_id": request_id}

    def headers(self) -> dict[str, str]:
        """Returns the headers of the response that the status requires."""
        retry = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return retry | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def shown(value: Any) -> Any:
    """Returns a value short enough to be repeated, and valid in JSON, which NaN and infinity are not."""
    if value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < MAX_NUMBER):
        return value
    text = value if isinstance(value, str) else repr(value) if isinstance(value, int | float) else reprlib.repr(value)
    start = _encodable(text[:MAX_SHOWN])
    return start if len(text) <= MAX_SHOWN else f"{start}... ({len(text)} characters)"


def _encodable(text: str) -> str:
    """Returns a text that can be sent: JSON can have half of a surrogate pair, UTF-8 cannot."""
    return text.encode(errors="replace").decode()


def service_error(error: BaseException) -> ServiceError | None:
    """Returns the error that a client receives for one of the processes behind the router; None for a defect."""
    cause = getattr(error, "cause", None) or error  # Ray wraps what a process raises
    if isinstance(cause, ServiceError):
        return cause
    if isinstance(cause, StorageError | UserError):  # its message names locations that are not the client's matter
        return ServiceError(
            503, "the index cannot be read; the service's log has the reason; try again", retry_after_s=5
        )
    if isinstance(cause, asyncio.TimeoutError | TimeoutError):
        return timed_out()
    return unavailable() if lost_process(error) else None


def several(photos: int, key: str) -> ServiceError:
    """Returns the error of a key that several data sets have."""
    return ServiceError(422, f"{photos} photos have the key {shown(key)}; give their dataset, too", "dataset")


def timed_out() -> ServiceError:
    """Returns the error of a request whose deadline passed."""
    return ServiceError(
        504, "the deadline of the request passed; try again, a search with fewer candidates", retry_after_s=1
    )


def unavailable() -> ServiceError:
    """Returns the error of a request whose process ended twice."""
    return ServiceError(503, "a process of the service ended and is being restarted; try again", retry_after_s=5)
