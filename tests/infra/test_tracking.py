"""Runs in a tracking store, and stores that cannot be used."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from infra.errors import LeaseLostError, UserError
from infra.failures import MAX_CHARS
from infra.log import binding
from infra.tracking import RUN_COMMAND, Tracking, TrackingConfig, connect, find_store, require_store
from infra.tracking_errors import TrackingError


def test_params_metrics_and_status_of_a_run(tracking: Tracking):
    run_id = tracking.create_run("one", {"lineage.manifest": "m"})
    rows = [(step, 1_700_000_000_000 + step, {"loss": 1 / (step + 1), "lr": 0.1}) for step in range(1500)]
    with tracking.running(run_id):
        tracking.log_params(run_id, {"a.b": 1, "c": "x"})
        tracking.log_rows(run_id, rows[:700])
        tracking.log_rows(run_id, rows)  # rows logged twice are stored once
    run = tracking.client().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"a.b": "1", "c": "x"}
    assert run.data.tags["lineage.manifest"] == "m"
    history = tracking.client().get_metric_history(run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(step, 1 / (step + 1)) for step in range(1500)]


def test_replaced_tags_are_those_of_a_prefix(tracking: Tracking):
    run_id = tracking.create_run("one", {"log.0": "a", "log.1": "b", "logs": "c"})
    tracking.replace_tags(run_id, "log.", {"log.0": "d"})
    tags = tracking.client().get_run(run_id).data.tags
    assert {name: tag for name, tag in tags.items() if name.startswith("log")} == {"log.0": "d", "logs": "c"}


def test_a_run_has_the_command_that_creates_it(tracking: Tracking):
    def command_of(length: int) -> str | None:
        with binding(command="c" * length):
            run_id = tracking.create_run("one", {})
        command: str | None = tracking.client().get_run(run_id).data.tags.get(RUN_COMMAND)
        return command

    assert command_of(MAX_CHARS) == "c" * MAX_CHARS
    assert command_of(0) is command_of(MAX_CHARS + 1) is None


def test_a_run_that_raises_fails_and_can_be_resumed(tracking: Tracking):
    run_id = tracking.create_run("two", {})
    with pytest.raises(ZeroDivisionError), tracking.running(run_id):
        1 / 0  # noqa: B018
    assert tracking.client().get_run(run_id).info.status == "FAILED"
    with tracking.running(run_id):
        assert tracking.client().get_run(run_id).info.status == "RUNNING"
    assert tracking.client().get_run(run_id).info.status == "FINISHED"


def test_an_interrupted_run_is_killed(tracking: Tracking):
    run_id = tracking.create_run("three", {})
    with pytest.raises(KeyboardInterrupt), tracking.running(run_id):
        raise KeyboardInterrupt
    assert tracking.client().get_run(run_id).info.status == "KILLED"


def test_ended_run_keeps_its_status_after_an_error(tracking: Tracking):
    """A sweep ends the run of a trial that it stops, whose training then fails."""
    run_id = tracking.create_run("four", {})

    def stopped() -> None:
        tracking.client().set_terminated(run_id, "KILLED")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), tracking.running(run_id):
        stopped()
    assert tracking.client().get_run(run_id).info.status == "KILLED"


def of_successor() -> bool:
    return True


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt, LeaseLostError])
def test_the_status_of_a_successors_run_is_left_alone(tracking: Tracking, error: type[BaseException] | None):
    run_id = tracking.create_run("four", {})
    with pytest.raises(error) if error else nullcontext(), tracking.running(run_id, of_successor):
        if error:
            raise error
    assert tracking.client().get_run(run_id).info.status == "RUNNING"


def test_unwritable_artifacts_prevent_creating_a_run(tracking: Tracking, tmp_path: Path):
    (tmp_path / "artifacts").write_text("a file, not a folder")
    message = r"artifact folder of tracking\.uri sqlite:.*, '.*artifacts.*' cannot be written"
    with pytest.raises(UserError, match=message):
        tracking.create_run("six", {})
    assert list(tracking.client().search_runs([tracking.experiment_id])) == []


def test_a_run_of_another_store_is_an_error(tracking: Tracking):
    with pytest.raises(UserError, match="has no run 0123"):
        tracking.require_run("0123")


def test_an_unreachable_server_is_reported_within_seconds():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(TrackingError, match=f"127.0.0.1:{port} is unreachable .*; start the server") as caught:
        connect(TrackingConfig(uri=f"http://127.0.0.1:{port}"))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 10


def test_reading_creates_neither_a_file_nor_an_experiment(tracking: Tracking, tmp_path: Path):
    missing = TrackingConfig(uri=f"sqlite:///{tmp_path}/new/mlflow.db")
    assert find_store(missing) is None
    with pytest.raises(UserError, match=rf"^tracking\.uri {missing.uri} does not exist; set it, or the environment"):
        require_store(missing)
    assert not (tmp_path / "new").exists()
    other = TrackingConfig(uri=tracking.uri, experiment="another")
    assert require_store(other) == find_store(other) == Tracking(tracking.uri, "")
    assert tracking.client().get_experiment_by_name("another") is None
    assert require_store(TrackingConfig(uri=tracking.uri)) == tracking


@pytest.mark.parametrize(
    "uri",
    ["", "mlruns", "file:///tmp/x", "sqlite:relative.db", "sqlite://", "sqlite:///", "sqlite+pysqlite:///x.db",
     "databricks", "databricks://profile", "databricks-uc", "uc:http://host", "azureml://x", "arn:aws:x", "ftp://host"],
)  # fmt: skip
def test_an_invalid_tracking_uri_is_an_error(uri: str):
    with pytest.raises(UserError, match="is not a tracking store; use http"):
        connect(TrackingConfig(uri=uri))


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgresql+psycopg", "mysql", "mysql+pymysql", "mssql+pyodbc", "PostgreSQL"]
)
def test_a_database_without_a_server_is_an_error(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """MLflow would write models into the folder `mlruns` of this machine."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is a database, which cannot store models; start `mlflow server") as caught:
        connect(TrackingConfig(uri=f"{scheme}://me:secret@host:1/db"))
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_experiment_has_a_command_to_restore_it(tracking: Tracking):
    tracking.client().delete_experiment(tracking.experiment_id)
    command = f"mlflow experiments restore --experiment-id {tracking.experiment_id}"
    with pytest.raises(UserError, match=f"'shan' at sqlite.* is deleted; restore it with `{command}`, or set another"):
        connect(TrackingConfig(uri=tracking.uri))


@pytest.mark.parametrize("name", ["", "x" * 600])
def test_an_invalid_experiment_is_named(tracking: Tracking, name: str):
    with pytest.raises(UserError, match=rf"^tracking\.experiment '{name}' .* is not valid \(.*\); set another name"):
        connect(TrackingConfig(uri=tracking.uri, experiment=name))


def test_clients_that_start_at_once_share_a_new_experiment(mlflow_uri: str):
    config = TrackingConfig(uri=mlflow_uri, experiment="started at once")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: connect(config).experiment_id, range(8)))
    assert len(set(found)) == 1


@pytest.mark.parametrize("form", ["relative", "home", "absolute"])
def test_the_path_of_a_file_may_contain_any_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str):
    """SQLAlchemy decodes the path of a URI and cuts it at a `?`; MLflow decodes artifact locations."""
    folder = tmp_path / "a b%20c?d#e"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    path = {"relative": "mlflow.db", "home": "~/mlflow.db", "absolute": f"{folder}/mlflow.db"}[form]
    tracking = connect(TrackingConfig(uri=f"sqlite:///{path}"))
    run_id = tracking.create_run("one", {})
    tracking.client().log_text(run_id, "text", "note.txt")
    assert (folder / "mlflow.db").is_file()
    (note,) = folder.rglob("note.txt")
    assert note.relative_to(folder).parts[0] == "artifacts"
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    again = connect(TrackingConfig(uri=tracking.uri))
    assert again == tracking
    again.require_run(run_id)
