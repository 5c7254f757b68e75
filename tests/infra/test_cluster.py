"""The Ray session's checks, and the packages that workers import."""

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from infra import cluster
from infra.cluster import (
    ClusterConfig,
    _is_failed_start,
    _runtime_env,
    _start_fix,
    _start_local,
    check_address,
    require_dashboard,
)
from infra.errors import UserError
from infra.source_tree import PACKAGES, SOURCE_ROOT
from tests.support.http_answers import Answer, answering
from tests.support.servers import free_ports

WORKER = """
import pickle, sys
sys.path = [path for path in sys.path if path != sys.argv[3]]
sys.path.insert(0, sys.argv[1])  # as Ray does with the driver's current folder
pickle.loads(bytes.fromhex(sys.argv[2]))()
sys.path.insert(0, sys.argv[1])  # in whichever order
import infra.errors, pipelines.status
print(infra.errors.__file__, pipelines.status.__file__)
"""


def test_workers_import_this_project_despite_equal_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('this is another project')\n")
    monkeypatch.chdir(tmp_path)
    environment = _runtime_env(ClusterConfig())
    assert environment is not None
    hook = cloudpickle.dumps(environment["worker_process_setup_hook"]).hex()
    result = subprocess.run(
        [sys.executable, "-P", "-c", WORKER, str(tmp_path), hook, str(SOURCE_ROOT)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(SOURCE_ROOT / "infra/errors.py"), str(SOURCE_ROOT / "pipelines/status.py")]
    assert _runtime_env(ClusterConfig(address="ray://head:10001")) is None


def test_workers_need_no_help_in_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for folder in (tmp_path, SOURCE_ROOT):
        monkeypatch.chdir(folder)
        assert _runtime_env(ClusterConfig()) is None


def test_an_unreachable_cluster_is_an_error_within_seconds():
    (port,) = free_ports(1)
    with pytest.raises(UserError, match=rf"cluster\.address ray://127\.0\.0\.1:{port} is unreachable"):
        check_address(ClusterConfig(address=f"ray://127.0.0.1:{port}"))
    check_address(ClusterConfig(address="auto"))


@pytest.mark.parametrize("other", ["silent", "http"])
def test_an_address_without_a_head_is_an_error(other: str, monkeypatch: pytest.MonkeyPatch):
    """Ray would wait for its control store without end."""
    monkeypatch.setattr(cluster, "HEAD_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, answering(lambda _: Answer(200)) as uri:
        address = uri.removeprefix("http://") if other == "http" else f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"^cluster\.address {address} is not the head of a Ray cluster: .*6379"):
            check_address(ClusterConfig(address=address))


def test_a_running_head_is_accepted(ray_session: None):
    import ray

    check_address(ClusterConfig(address=ray.get_runtime_context().gcs_address))


@pytest.mark.parametrize(
    ("given", "variable", "joined"),
    [
        ("", None, ""),
        ("", "", ""),  # Ray would join any cluster of this machine
        ("", "local", ""),
        ("local", "10.0.0.1:6379", ""),
        ("", "ray://head:10001", "ray://head:10001"),
        ("auto", "local", "auto"),
    ],
)
def test_the_field_and_then_the_variable_name_the_cluster(
    given: str, variable: str | None, joined: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    config = ClusterConfig(address=given)
    assert (config.joined, config.is_local) == (joined, not joined)


def test_the_url_of_a_dashboard_is_refused():
    with pytest.raises(UserError, match=r"http://head:8265, the URL of a dashboard; give `auto`, host:port"):
        check_address(ClusterConfig(address="http://head:8265"))


@pytest.mark.parametrize(("field", "value"), [("local_cpus", 0), ("local_object_store_mb", 79)])
def test_a_local_cluster_that_is_too_small_is_an_error(field: str, value: int):
    with pytest.raises(ValueError, match=rf"cluster\.{field} is {value}"):
        ClusterConfig(**{field: value})


def test_a_cluster_without_a_needed_dashboard_is_refused(ray_session: None):
    with pytest.raises(UserError, match=r"^the cluster has no dashboard, which counts; start its head with .*=true`$"):
        require_dashboard("counts")


@pytest.mark.parametrize(("field", "value"), [("local_cpus", 2), ("local_object_store_mb", 100)])
def test_settings_of_a_local_cluster_need_one(field: str, value: int):
    ClusterConfig(address="local", **{field: value})
    with pytest.raises(ValueError, match=rf"cluster\.{field} is {value}, but has no effect with cluster\.address auto"):
        ClusterConfig(address="auto", **{field: value})


STARTS = """
import sys
from infra import cluster
from infra.cluster import ClusterConfig, connect
from jobs import cli
cli.run(lambda: connect(ClusterConfig(local_cpus=1, local_object_store_mb=int(sys.argv[1]))))
"""


def start_local(object_store_mb: int, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Starts a local cluster in a process of its own, as a command does."""
    command = [sys.executable, "-c", STARTS, str(object_store_mb)]
    variables = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_TMPDIR")}
    return subprocess.run(
        command, cwd=SOURCE_ROOT, env=variables | environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_too_long_socket_path_is_a_one_line_error(tmp_path: Path):
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    done = start_local(100, RAY_TMPDIR=str(folder))
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(
        r"error: Ray does not start .*AF_UNIX.*; set RAY_TMPDIR to a short path, such as /tmp\n", done.stderr
    )


@pytest.mark.parametrize(("name", "value"), [("RAY_TMPDIR", "folder"), ("TMPDIR", "")])
def test_relative_temporary_folder_is_an_error(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    """Ray's processes would look for each other in different folders, for half a minute."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        _start_local(ClusterConfig(local_cpus=1), dashboard=False, options={})
    assert str(caught.value) == (
        f"{name} is {value!r}, which Ray does not take; set RAY_TMPDIR to the absolute path of a folder that this user "
        "can write"
    )


def test_temporary_folder_below_a_file_is_a_one_line_error(tmp_path: Path):
    (tmp_path / "file").touch()
    done = start_local(100, RAY_TMPDIR=str(tmp_path / "file" / "below"))
    assert done.returncode == 2, done.stderr
    fix = "set RAY_TMPDIR to a folder that this user can write"
    assert re.fullmatch(rf"error: Ray does not start .*Not a directory.*/file/below.*; {fix}\n", done.stderr)


@pytest.mark.long  # other starts fail in tests above
def test_excessive_object_store_is_a_one_line_error():
    done = start_local(100_000_000)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"error: Ray does not start .*; lower cluster\.local_object_store_mb, or .*\n", done.stderr)


def test_other_reasons_get_a_general_fix():
    assert _start_fix(RuntimeError("The current node timed out during startup")).startswith(
        "free memory, ports or space"
    )


JOINS = """
import sys, time
import ray
from infra.cluster import ClusterConfig, connect
from infra.log import configure, log

configure(sys.argv[2], "extract")
connect(ClusterConfig(address=sys.argv[1]))

@ray.remote(num_cpus=0)
def work():
    from infra.log import log
    log.warning("a worker's line")
    return ray.get_runtime_context().get_worker_id()

worker = ray.get(work.remote())
time.sleep(5)  # a driver that shows the lines of its workers gets them within three seconds
log.warning(worker)
"""


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("log_format", ["json", pytest.param("text", marks=pytest.mark.long)])
def test_lines_of_workers_are_in_their_files_only(log_format: str):
    """On a cluster that a command joins as on a local one; Ray would print them with a prefix, which is not JSON."""
    import ray

    context = ray.get_runtime_context()
    done = subprocess.run(
        [sys.executable, "-c", JOINS, context.gcs_address, log_format],
        cwd=SOURCE_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    *_, last = done.stderr.splitlines()
    worker = json.loads(last)["message"] if log_format == "json" else last.removeprefix("warning: ")
    assert "a worker's line" not in done.stdout + done.stderr
    logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    (file,) = logs.glob(f"worker-{worker}-*.err")
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if "a worker's line" in line]
    if log_format == "text":
        assert lines == ["warning: a worker's line"]
        return
    assert [json.loads(line)["job"] for line in lines] == ["extract"]
    assert all(json.loads(line) for line in done.stderr.splitlines())


def test_defects_at_the_start_of_ray_keep_their_type():
    raised_by_ray = (Exception("The current node timed out during startup"), ConnectionError(), ValueError(), OSError())
    assert all(map(_is_failed_start, raised_by_ray))
    assert not any(map(_is_failed_start, (TypeError(), AttributeError(), ImportError(), KeyError(), AssertionError())))


@pytest.mark.usefixtures("ray_session")
def test_ray_data_error_is_printed_once(monkeypatch: pytest.MonkeyPatch):
    from ray._private.log import PlainRayHandler

    log, terminal = logging.getLogger("ray.data"), io.StringIO()
    (console,) = [handler for handler in log.handlers if isinstance(handler, PlainRayHandler)]
    monkeypatch.setattr(console, "stream", terminal)
    log.error("a node is lost")
    log.error("Full stack trace:", exc_info=UserError("the token has expired"))  # as ray.data.exceptions does
    assert "a node is lost" in terminal.getvalue()
    assert "stack trace" not in terminal.getvalue()
