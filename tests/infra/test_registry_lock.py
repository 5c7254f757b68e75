"""The lock between real processes, on SQLite and on a real server: no lost updates, and killed holders are named."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.registry_lock import free_lock, lock_name, registry_lock
from infra.tracking import Tracking, TrackingConfig, connect
from tests.support import ROOT
from tests.support.faulty_proxy import CUT_BEFORE, faulty_proxy

PROCESSES, TIMES = 3, 2
COUNT = f"""
import multiprocessing, sys, time
import mlflow  # before the forks, as it takes seconds
from infra.registry_lock import registry_lock
from infra.tracking import Tracking
def count():
    tracking = Tracking(sys.argv[1], "0")
    client = tracking.client()
    for _ in range({TIMES}):
        with registry_lock(tracking, sys.argv[2], "free it"):
            count = int(client.get_registered_model(sys.argv[2]).tags["count"])
            time.sleep(0.05)  # without the lock, other processes would read the same number here
            client.set_registered_model_tag(sys.argv[2], "count", str(count + 1))
fork = multiprocessing.get_context("fork")
processes = [fork.Process(target=count) for _ in range({PROCESSES})]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit(any(process.exitcode for process in processes))
"""
HOLD = """
import sys, time
from infra.registry_lock import registry_lock
from infra.tracking import Tracking
with registry_lock(Tracking(sys.argv[1], "0"), sys.argv[2], "free it"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Tracking:
    """A tracking store in a SQLite file, and behind a server."""
    uri = f"sqlite:///{tmp_path}/mlflow.db" if request.param == "sqlite" else request.getfixturevalue("mlflow_uri")
    return connect(TrackingConfig(uri=uri, experiment=tmp_path.name))


def start(code: str, store: Tracking, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, store.uri, name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_no_update_under_the_lock_is_lost(store: Tracking):
    store.client().create_registered_model("counted", {"count": "0"})
    counting = start(COUNT, store, "counted")
    _, errors = counting.communicate(timeout=300)
    assert counting.returncode == 0, errors
    assert store.client().get_registered_model("counted").tags["count"] == str(PROCESSES * TIMES)
    assert lock_name("counted") not in [model.name for model in store.client().search_registered_models()]
    store.client().delete_registered_model("counted")


def test_lock_error_names_holder_and_release_command(store: Tracking):
    holder = start(HOLD, store, "m")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with (
        pytest.raises(
            UserError, match=rf"m.promotion-lock is held by process {holder.pid} on .* since 20.*run `free it`"
        ),
        registry_lock(store, "m", "free it", deadline_s=1),
    ):
        pass
    freed = free_lock(store, "m")
    assert freed is not None
    assert f"process {holder.pid} on" in freed
    assert free_lock(store, "m") is None
    with registry_lock(store, "m", "free it", deadline_s=1) as lock:
        lock.check()


def test_a_holder_without_its_lock_keeps_the_next_holders_lock(store: Tracking):
    with registry_lock(store, "m", "free it") as first:
        free_lock(store, "m")
        with pytest.raises(UserError, match="was freed while this process held it"):
            first.check()
        with registry_lock(store, "m", "free it") as second:
            with pytest.raises(UserError, match="was freed while this process held it"):
                first.check()
            first.release()
            second.check()
    assert not store.client().search_registered_models(f"name = '{lock_name('m')}'")


def test_a_body_that_raises_releases_the_lock(store: Tracking):
    with pytest.raises(ZeroDivisionError), registry_lock(store, "m", "free it"):
        1 / 0  # noqa: B018
    with registry_lock(store, "m", "free it", deadline_s=0):
        pass


def test_a_lock_that_cannot_be_released_is_a_warning(mlflow_uri: str, capsys: pytest.CaptureFixture[str]):
    """An error would hide that the alias has moved."""
    with faulty_proxy(mlflow_uri) as proxy:
        tracking = connect(TrackingConfig(uri=proxy.endpoint))
        with registry_lock(tracking, "unreleased", "free it"):
            proxy.next(CUT_BEFORE, 100)
    warning = "warning: unreleased.promotion-lock could not be released; `free it` releases it (tracking.uri "
    assert capsys.readouterr().err.startswith(warning)
    assert free_lock(connect(TrackingConfig(uri=mlflow_uri)), "unreleased") is not None
