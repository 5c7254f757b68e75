"""What `jobs.submit` packs, what it refuses, and how long it waits; the rest is in tests/cluster/test_submit.py."""

import shutil
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra import ray_jobs
from infra.errors import UserError
from tests.support.processes import ROOT


def test_the_code_travels_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A checkout as its users have it: secrets beside the code, compiled files, and data."""
    for package in ray_jobs.PACKED:
        shutil.copytree(ROOT / package, tmp_path / package)
    for name in (".env", ".env.local", ".env~", "prod.env", "id_rsa", "photos.tar"):
        (tmp_path / "infra" / name).write_text("RAY_AUTH_TOKEN=secret\n")
    (tmp_path / "jobs" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "jobs" / "__pycache__" / "cli.cpython-311.pyc").write_bytes(b"")
    (tmp_path / "build").mkdir()
    monkeypatch.setattr(ray_jobs, "ROOT", tmp_path)
    listed = subprocess.run(
        ["git", "ls-files", *ray_jobs.PACKED], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    with ray_jobs._packed() as folder:
        packed = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert packed == {path for path in listed if Path(path).suffix in ray_jobs.CODE}
    assert {path.partition("/")[0] for path in packed} == {"infra", "jobs", "pipelines", "shan_model"}
    ignored = (ROOT / "infra" / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {"**/.env*", "**/*.env"} <= set(ignored)


def test_config_files_travel(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("train: {epochs: 3}\n")
    arguments = ["--name=m", "--config", str(file), f"--config={file}", "--preset", "coco"]
    there = tmp_path / "there"
    there.mkdir()
    found = ray_jobs._with_config_files(arguments, there)
    assert found == ["--name=m", "--config=config-1.yaml", "--config=config-2.yaml", "--preset", "coco"]
    assert all((there / f"config-{number}.yaml").read_bytes() == file.read_bytes() for number in (1, 2))
    with pytest.raises(UserError, match=r"nowhere\.yaml is no file here"):
        ray_jobs._with_config_files(["--config", "nowhere.yaml"], there)


def test_a_reader_that_leaves_is_not_taken_for_a_cluster_that_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_jobs, "_client", lambda address: None)

    def print_on() -> None:
        with ray_jobs.cluster("http://127.0.0.1:8265"):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        print_on()


def test_a_killed_job_has_the_code_that_shells_give():
    details: Any = SimpleNamespace(submission_id="train-0.1", status="FAILED", message="killed", driver_exit_code=-9)
    assert ray_jobs.outcome(details) == 137


def test_a_config_file_with_a_password_is_not_submitted(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("tracking: {uri: postgresql://me:hunter2@db/mlflow}\n")
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(UserError, match=r"mine\.yaml holds a user or password") as caught:
        ray_jobs._with_config_files([f"--config={file}"], there)
    assert "hunter2" not in str(caught.value)


def test_a_command_line_with_a_password_is_not_submitted():
    client: Any = None  # nothing is asked of it
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        ray_jobs.submit(client, "train", ["--tracking.uri=https://me:hunter2@mlflow"])
    assert "hunter2" not in str(caught.value)


def test_a_cluster_that_takes_connections_and_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_jobs, "ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ray_jobs.UnreachableError, match=f"{address}.*timed out"), ray_jobs.cluster(address):
            pass
