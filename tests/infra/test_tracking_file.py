"""The SQLite file of a tracking store: created by several processes at once, killed meanwhile, and other files."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest

from infra import tracking_file
from infra.errors import UserError
from infra.tracking import Tracking, TrackingConfig, connect
from tests.support import ROOT


@pytest.fixture
def file(tracking: Tracking) -> Path:
    """A file that MLflow can use."""
    return Path(tracking.uri.removeprefix("sqlite:///"))


def error_of(file: Path) -> str:
    """Returns the message with which a file is refused: one line, within seconds."""
    start = time.monotonic()
    with pytest.raises(UserError, match=r"^tracking\.uri sqlite:///") as caught:
        connect(TrackingConfig(uri=f"sqlite:///{file}"))
    assert time.monotonic() - start < 10
    return str(caught.value)


def execute(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(statement)


AT_ONCE = """
import multiprocessing, os, sys
from pathlib import Path
import mlflow
from infra.tracking import TrackingConfig, connect
file, fork = Path(sys.argv[1]), multiprocessing.get_context("fork")
barrier = fork.Barrier(3)
def create():
    barrier.wait(60)
    connect(TrackingConfig(uri=f"sqlite:///{file}")).create_run("one", {})
processes = [fork.Process(target=create) for _ in range(3)]
for process in processes:
    process.start()
for process in processes:
    process.join(120)
sys.exit(0 if [process.exitcode for process in processes] == [0, 0, 0] else 1)
"""
KILLED = """
import multiprocessing, os, sys, time
from pathlib import Path
import mlflow
from infra.tracking import TrackingConfig, connect
file, fork = Path(sys.argv[1]), multiprocessing.get_context("fork")
process = fork.Process(target=lambda: connect(TrackingConfig(uri=f"sqlite:///{file}")))
process.start()
while not any(found.stat().st_size > 50_000 for found in file.parent.rglob("*.db")):
    assert process.is_alive()
    time.sleep(0.01)
process.kill()
process.join()
connect(TrackingConfig(uri=f"sqlite:///{file}"))
"""


@pytest.mark.long  # tests below have one process that waits for another
def test_processes_that_start_at_once_share_a_new_file(tmp_path: Path):
    """MLflow by itself repeats migrations at the same time, and fails with "duplicate column name"."""
    file = tmp_path / "mlflow.db"
    subprocess.run([sys.executable, "-c", AT_ONCE, str(file)], cwd=ROOT, check=True, timeout=300)
    tracking = connect(TrackingConfig(uri=f"sqlite:///{file}"))
    assert len(tracking.client().search_runs([tracking.experiment_id])) == 3


@pytest.mark.long
def test_connect_succeeds_after_kill_during_file_creation(tmp_path: Path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "mlflow.db")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    assert connect(TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")).experiment_id


FULL = """
import resource, sys
from infra.errors import StorageError
from infra.tracking import TrackingConfig, connect
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as a full disk, which a test cannot make
try:
    connect(TrackingConfig(uri=f"sqlite:///{sys.argv[1]}"))
except StorageError as error:
    print(error)
"""


@pytest.mark.long
def test_full_disk_during_creation_is_reported(tmp_path: Path):
    file = tmp_path / "mlflow.db"
    command = [sys.executable, "-c", FULL, str(file)]
    done = subprocess.run(command, cwd=ROOT, check=True, timeout=300, capture_output=True, text=True)
    assert re.fullmatch(rf"tracking\.uri sqlite:///{file} fails \(.*\); free its disk or end .*\n", done.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db.lock"]


def test_unwritable_folder_fails_without_waiting():
    assert "cannot be written (" in error_of(Path("/proc/mlflow.db"))


def test_an_empty_file_becomes_a_database(
    tmp_path: Path, create_tracking_file: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tracking_file, "_create", create_tracking_file)  # by MLflow, instead of a copy
    (tmp_path / "mlflow.db").touch()
    tracking = connect(TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"))
    assert tracking.client().get_experiment(tracking.experiment_id).lifecycle_stage == "active"


def test_a_newer_schema_names_the_versions(file: Path):
    execute(file, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    message = error_of(file)
    assert f"was written by a newer MLflow than {mlflow.__version__} (schema ffffffffffff); install that" in message


def test_an_older_schema_is_an_error_with_the_command(file: Path):
    execute(file, "UPDATE alembic_version SET version_num = '97727af70f4d'")
    execute(file, "DROP TABLE webhooks")  # of later migrations: MLflow would repeat all of them
    before = file.read_bytes()
    message = error_of(file)
    assert "was written by an older MLflow" in message
    assert f"back it up and run `mlflow db upgrade sqlite:///{file}`" in message
    assert file.read_bytes() == before


def test_other_files_are_named_and_left_alone(tmp_path: Path):
    text, other = tmp_path / "text.db", tmp_path / "other.db"
    text.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    execute(other, "CREATE TABLE songs (title TEXT)")
    before = other.read_bytes()
    assert "cannot be read (file is not a database); it is not a database of MLflow, give the path" in error_of(text)
    assert "cannot be read (no such table: alembic_version); it is not a database of MLflow" in error_of(other)
    assert other.read_bytes() == before


def test_a_corrupt_file(file: Path):
    file.write_bytes(file.read_bytes()[:8192])
    assert "cannot be read (database disk image is malformed); restore it from a backup" in error_of(file)


def test_a_file_that_another_process_has_locked(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracking_file, "BUSY_S", 0.2)
    with closing(sqlite3.connect(file)) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert "cannot be read (database is locked); end the process that has locked it" in error_of(file)


HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_another_process_that_does_not_finish_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracking_file, "LOCK_S", 0.5)
    lock = tmp_path / "mlflow.db.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert f"another process has held {lock} for 0 s; end it and try again" in error_of(tmp_path / "mlflow.db")
        holder.kill()


def test_dangling_links_and_special_files_are_errors(tmp_path: Path):
    link, pipe = tmp_path / "link.db", tmp_path / "pipe.db"
    link.symlink_to("/unmounted/mlflow.db")
    os.mkfifo(pipe)
    assert f"{link} is a link to /unmounted/mlflow.db, which does not exist" in error_of(link)
    assert link.is_symlink()
    assert f"{pipe} is not a regular file; give another path" in error_of(pipe)
    assert "/dev/null is not a regular file" in error_of(Path("/dev/null"))


def test_a_folder_in_place_of_a_file(tmp_path: Path):
    assert f"cannot be written (Is a directory: {tmp_path}); give a file in a folder where" in error_of(tmp_path)
    (tmp_path / "file").touch()
    assert f"cannot be written (File exists: {tmp_path}/file)" in error_of(tmp_path / "file" / "mlflow.db")


@pytest.mark.parametrize(
    "case",
    ["read-only file", pytest.param("read-only folder", marks=pytest.mark.long), "new file in a read-only folder"],
)
def test_what_the_user_may_not_write(case: str, file: Path):
    """Root may write everywhere, so it becomes another user meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        empty, file = file, Path(folder) / "mlflow.db"
        if not case.startswith("new"):
            shutil.copyfile(empty, file)
            file.chmod(0o444 if case == "read-only file" else 0o666)
        Path(folder).chmod(0o777 if case == "read-only file" else 0o555)
        root = os.geteuid() == 0
        if root:
            os.setresuid(65534, 65534, 0)
        try:
            found = re.search(r"\(Permission denied: (.*)\); give a file in a folder where this user", error_of(file))
            assert found
            assert found[1].startswith(folder)
        finally:
            if root:
                os.setresuid(0, 0, 0)
            Path(folder).chmod(0o755)
