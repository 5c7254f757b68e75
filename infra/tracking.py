"""MLflow tracking: the connection to a tracking store, checked before any work begins, and runs in it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import LeaseLostError, UserError
from infra.paths import local_path
from infra.redaction import redact
from infra.storage.open import require_durable_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
DEFAULT_URI = f"{_SQLITE}build/mlflow/mlflow.db"


@dataclass(frozen=True)
class TrackingConfig:
    """The store of runs and registered models."""

    uri: str = field(default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    """URI of the tracking store and registry: a server (`http://host:5000`) or a file (`sqlite:///` and its path).
    Default: the environment variable MLFLOW_TRACKING_URI, else a file below `build/`."""
    experiment: str = "shan"
    """Name of the MLflow experiment that contains the runs; created if it does not exist."""


@dataclass(frozen=True)
class Tracking:
    """A tracking store that responded. It is small and picklable: workers and callbacks create clients from it."""

    uri: str
    experiment_id: str

    def client(self) -> "MlflowClient":
        """Returns a client of this store and of its registry."""
        return _client(self.mlflow_uri)

    @property
    def mlflow_uri(self) -> str:
        """The URI as MLflow takes it: SQLAlchemy decodes a file's path and cuts it at a `?`.

        For `sqlite:///`, MLflow also creates the folder of the path that is not decoded.
        """
        if not self.is_file or not {"%", "?"} & set(self.uri):
            return self.uri
        return self.uri.replace("%", "%25").replace("?", "%3F").replace(_SQLITE, "sqlite+pysqlite:///")

    def create_run(self, name: str, tags: Mapping[str, str]) -> str:
        """Creates a run with these tags and MLflow's own (user, command, git commit), and returns its id.

        The run has the status RUNNING until `running` ends it.
        """
        from mlflow.tracking.context.registry import resolve_tags

        run = self.client().create_run(self.experiment_id, run_name=name, tags=resolve_tags(dict(tags)))
        run_id: str = run.info.run_id
        return run_id

    def require_run(self, run_id: str) -> None:
        """Raises UserError if this store has no such run."""
        from mlflow.exceptions import MlflowException

        try:
            self.client().get_run(run_id)
        except MlflowException as error:
            raise UserError(
                f"tracking.uri {redact(self.uri)} has no run {run_id}; set the URI of the store that has it"
            ) from error

    @contextmanager
    def running(self, run_id: str) -> Iterator[None]:
        """Sets the run's status to RUNNING for the body, then to FINISHED, FAILED (exception) or KILLED (Ctrl-C).

        After a LeaseLostError the status is left alone: the run belongs to the process that holds the lease.
        """
        client = self.client()
        client.update_run(run_id, status="RUNNING")
        try:
            yield
        except LeaseLostError:
            raise
        except KeyboardInterrupt:
            client.set_terminated(run_id, "KILLED")
            raise
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)

    @property
    def is_file(self) -> bool:
        """Whether the store is a SQLite file, which only processes of this machine can open."""
        return self.uri.startswith(_SQLITE)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Logs all parameters of a run in one request. MLflow does not allow to change them later."""
        from mlflow.entities import Param

        self.client().log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs the metrics of one step in one request."""
        import time

        self.log_rows(run_id, [(step, time.time_ns() // 1_000_000, metrics)])

    def log_rows(self, run_id: str, rows: Sequence[tuple[int, int, Mapping[str, float]]]) -> None:
        """Logs metrics of many steps, as rows of (step, milliseconds since 1970, values), in requests of 1,000 values.

        Logging a row twice stores it once: MLflow identifies a value by its metric, step and time.
        """
        from mlflow.entities import Metric

        values = [Metric(key, float(v), time, step) for step, time, metrics in rows for key, v in metrics.items()]
        client = self.client()
        for start in range(0, len(values), 1000):
            client.log_batch(run_id, metrics=values[start : start + 1000])


def connect(config: TrackingConfig) -> Tracking:
    """Connects to the store and creates the experiment if it does not exist.

    Raises UserError for an invalid URI, a store that is unreachable within seconds, and a deleted experiment.
    """
    tracking = Tracking(_resolve(config.uri), "")
    uri = tracking.uri
    # MLflow retries for minutes by default; a wrong address must show within seconds.
    short_timeouts = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    with _environment(short_timeouts):
        try:
            client = tracking.client()
            experiment = client.get_experiment_by_name(config.experiment)
            experiment_id = (
                experiment.experiment_id
                if experiment is not None
                else _create_experiment(client, config.experiment, _artifact_location(uri))
            )
        except Exception as error:  # MLflow, SQLAlchemy and requests each raise their own types
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise UserError(
                f"tracking.uri {redact(uri)} is unreachable ({redact(reason)}); start the server or use sqlite:///<file>"
            ) from error
    if experiment is not None and experiment.lifecycle_stage != "active":
        raise UserError(
            f"tracking.experiment {config.experiment} at {redact(uri)} is deleted; restore it or set another name"
        )
    return replace(tracking, experiment_id=experiment_id)


def _create_experiment(client: "MlflowClient", name: str, artifacts: str | None) -> str:
    """Returns the id of a new experiment, or of the one that another process created at the same moment."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(name, artifact_location=artifacts))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)


def _client(uri: str) -> "MlflowClient":
    import logging

    from mlflow import MlflowClient

    for name in ("alembic", "mlflow.store.db.utils"):  # they log 60 lines of migrations on a new SQLite file
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _resolve(uri: str) -> str:
    if uri.startswith(("http://", "https://", "postgresql", "mysql", "databricks")):
        return uri
    if not uri.startswith(_SQLITE):
        raise UserError(f"tracking.uri {redact(uri)} is not a tracking store; use http://host:port or sqlite:///<file>")
    file = local_path(uri.removeprefix(_SQLITE), "tracking.uri")
    require_durable_path(file, "tracking.uri")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"tracking.uri {redact(uri)}: its folder cannot be created ({error.strerror}); choose another path"
        ) from error
    return f"{_SQLITE}{file}"


def _artifact_location(uri: str) -> str | None:
    """Returns a folder beside a SQLite file; None for a server, which has its own."""
    return (Path(uri.removeprefix(_SQLITE)).parent / "artifacts").as_uri() if uri.startswith(_SQLITE) else None


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
