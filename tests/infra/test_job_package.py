"""What a submitted job's package contains."""

import shutil
import subprocess
from pathlib import Path

import pytest

from infra import job_package
from infra.errors import UserError
from infra.source_tree import PACKAGES
from tests.support import ROOT


def test_only_code_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The checkout also contains secrets, compiled files and data."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    for name in (".env", ".env.local", ".env~", "prod.env", "id_rsa", "photos.tar"):
        (tmp_path / "infra" / name).write_text("RAY_AUTH_TOKEN=secret\n")
    (tmp_path / "jobs" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "jobs" / "__pycache__" / "cli.cpython-311.pyc").write_bytes(b"")
    (tmp_path / "build").mkdir()
    monkeypatch.setattr(job_package, "SOURCE_ROOT", tmp_path)
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    with job_package.packed_code() as folder:
        packed = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert packed <= set(listed)
    left_out = {path for path in set(listed) - packed if not path.startswith("infra/deploy/")}
    assert left_out == {f"pipelines/detectors/weights/{name}" for name in ("LICENSE", "PROVENANCE.md")}
    assert {path.partition("/")[0] for path in packed} == {"infra", "jobs", "pipelines", "shan_model"}
    ignored = (ROOT / "infra" / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {"**/.env*", "**/*.env"} <= set(ignored)


def test_config_files_are_packed(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("train: {epochs: 3}\n")
    arguments = ["--name=m", "--config", str(file), f"--config={file}", "--preset", "coco"]
    packed = tmp_path / "packed"
    packed.mkdir()
    found = job_package.add_config_files(arguments, packed)
    assert found == ["--name=m", "--config=config-1.yaml", "--config=config-2.yaml", "--preset", "coco"]
    assert all((packed / f"config-{number}.yaml").read_bytes() == file.read_bytes() for number in (1, 2))
    with pytest.raises(UserError, match=r"--config .*nowhere\.yaml: no such file"):
        job_package.add_config_files(["--config", "nowhere.yaml"], packed)


def test_paths_of_config_files_hold_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    found = job_package.absolute_config_files(["--name=m", "--config", "a.yaml", "--config=/b.yaml", "--x", "a.yaml"])
    assert found == ["--name=m", f"--config={tmp_path}/a.yaml", "--config=/b.yaml", "--x", "a.yaml"]


def test_a_config_file_in_the_home_folder_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("train: {epochs: 3}\n")
    packed = tmp_path / "packed"
    packed.mkdir()
    assert job_package.add_config_files(["--config=~/mine.yaml"], packed) == ["--config=config-0.yaml"]


def test_a_config_file_with_a_password_is_an_error(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("tracking: {uri: postgresql://me:hunter2@db/mlflow}\n")
    packed = tmp_path / "packed"
    packed.mkdir()
    with pytest.raises(UserError, match=r"mine\.yaml contains a user or password") as caught:
        job_package.add_config_files([f"--config={file}"], packed)
    assert "hunter2" not in str(caught.value)
