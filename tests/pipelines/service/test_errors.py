"""The status that a client receives for each kind of error behind the router."""

from copy import copy

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from infra.errors import StorageError, UserError
from pipelines.service.errors import ServiceError, service_error


def of_process(cause: Exception) -> RayTaskError:
    """Returns an error as Ray raises it for one of another process."""
    return RayTaskError("search", "Traceback ...", cause)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ServiceError(400, "image cannot be used", "image"), 400, "image cannot be used"),
        (UserError("s3://b/x.npy is corrupt"), 503, "the index cannot be read; the service's log has the reason"),
        (StorageError("s3://b: 503"), 503, "the index cannot be read; the service's log has the reason"),
        (TimeoutError(), 504, "the deadline of the request passed"),
        (ActorDiedError(), 503, "a process of the service ended"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_errors_have_a_status_and_a_fix(error: Exception, status: int, message: str, wrapped: bool):
    found = service_error(of_process(error) if wrapped else error)
    assert found is not None
    assert found.status == status
    assert message in found.document()["message"]
    assert ("Retry-After" in found.headers()) == (status in (503, 504))


def test_a_defect_has_no_status_of_its_own():
    assert service_error(of_process(ZeroDivisionError())) is None


def test_long_values_are_shortened_and_errors_are_copied():
    error = ServiceError(429, "busy", "k", "x" * 500, retry_after_s=2)
    copied = copy(error)  # as pickle does
    assert copied.document() == error.document()
    assert len(str(copied.value)) < 130
    assert copied.headers() == {"Retry-After": "2"}
    for value in ([0] * 9_000_000, {"a": list(range(1000))}):
        assert len(str(ServiceError(422, "no", "k", value).value)) < 130
    assert ServiceError(401, "token").headers() == {"WWW-Authenticate": "Bearer"}
