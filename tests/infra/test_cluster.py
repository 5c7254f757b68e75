"""The Ray session's checks, and the packages that workers import."""

import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from infra.cluster import ClusterConfig, _runtime_env, check_address, check_gpus
from infra.errors import UserError
from infra.source_tree import PACKAGES, SOURCE_ROOT
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


def test_workers_import_this_project_beside_packages_of_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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


@pytest.mark.parametrize(("field", "value"), [("local_cpus", 0), ("local_object_store_mb", 79)])
def test_a_local_cluster_that_is_too_small_is_an_error(field: str, value: int):
    with pytest.raises(ValueError, match=rf"cluster\.{field} is {value}"):
        ClusterConfig(**{field: value})


def test_gpus_that_a_local_cluster_lacks_are_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    message = "^extract.detector_gpus is 1, but this machine has 0 GPUs; set it to 0 or use cluster.address$"
    with pytest.raises(UserError, match=message):
        check_gpus(ClusterConfig(), 1, "extract.detector_gpus is 1", "set it to 0")
    check_gpus(ClusterConfig(), 0, "extract.detector_gpus is 0", "set it to 0")
    check_gpus(ClusterConfig(address="auto"), 1, "extract.detector_gpus is 1", "set it to 0")
