"""Errors of Ray Data workers as the driver prints them. `test_run.py` has them from real workers."""

import re
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from ray.exceptions import WorkerCrashedError

from infra.cluster import ClusterConfig
from infra.cluster_resources import ResourceRequest, Wait
from infra.errors import UserError
from pipelines.extraction import worker_errors
from pipelines.extraction.worker_errors import ADVICE, as_user_errors, keep_error_message
from tests.support.processes import wait_until


class Wrapped(UserError):
    """An exception of a worker, as Ray passes it on: with the original as its cause."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("Ray's text")
        self.cause = cause


def test_os_error_has_its_message_as_only_argument():
    @keep_error_message
    def write(path: str) -> None:
        raise OSError(28, "No space left on device", path)

    with pytest.raises(OSError, match="No space left") as caught:
        write("/full/x.tar")
    assert caught.value.args == ("[Errno 28] No space left on device: '/full/x.tar'",)


def test_errors_of_users_and_stores_are_one_line_without_advice():
    with pytest.raises(UserError) as corrupt, as_user_errors():
        raise Wrapped(UserError(f"a corrupt shard{ADVICE}retries"))
    assert str(corrupt.value) == "a corrupt shard"
    with pytest.raises(UserError) as full, as_user_errors():
        raise OSError(f"disk full{ADVICE}retries")
    assert str(full.value) == "disk full; what is complete is kept, re-run the same command to resume"


def test_lost_processes_are_one_line():
    with pytest.raises(UserError) as lost, as_user_errors():
        raise WorkerCrashedError
    assert re.fullmatch(
        r"worker processes were lost again and again, or cannot start \(.*\); .* re-run .* to resume", str(lost.value)
    )


def test_a_defect_is_passed_on():
    with pytest.raises(ZeroDivisionError), as_user_errors():
        raise ZeroDivisionError


class SlowRows:
    """A dataset whose second row arrives only after a line was printed."""

    context = SimpleNamespace()

    def iter_rows(self) -> Iterator[dict[str, int]]:
        yield {"row": 0}
        wait_until(lambda: "waiting" in sys.stderr.getvalue(), timeout_s=60)
        yield {"row": 1}


REQUEST = ResourceRequest([{"CPU": 2.0}], "extract.detector_cpus is 2", "use a larger cluster")


def test_idle_workers_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    monkeypatch.setattr(worker_errors, "IDLE_S", 0.2)
    monkeypatch.setattr(worker_errors, "CHECK_S", 0.01)
    assert list(worker_errors.iter_rows(SlowRows(), Wait(ClusterConfig(), REQUEST))) == [{"row": 0}, {"row": 1}]
    assert capsys.readouterr().err.startswith("waiting for workers, which have completed nothing for 0 s; if a node")
