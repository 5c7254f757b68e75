"""MLflow tracking: the connection to a tracking store, checked before any work begins, and runs in it."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra import failures
from infra.errors import LeaseLostError, UserError
from infra.log import bound
from infra.outages import outage_as_warning
from infra.paths import absolute, local_path
from infra.redaction import redact
from infra.storage.open import require_durable_path, require_folder
from infra.tracking_errors import explained, reason_of
from infra.tracking_file import database_is_missing, mlflow_uri, prepare_file
from infra.tracking_server import require_artifact_root, require_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SQLITE = "sqlite:///"
RANK_LOG = "log.rank_"
"""Prefix of the tags of a run with node and path of the log of each rank."""
SUBMISSION = "submission"
"""Tag of a run with the submission id of the job that created it."""
RUN_COMMAND = "command"
"""Tag of a run with the command that created it, without credentials. It resumes a run that is killed."""
SUBMISSION_VARIABLE = "SHAN_SUBMISSION"
"""Environment variable of a submitted job: its submission id."""
DEFAULT_URI = f"{_SQLITE}build/mlflow/mlflow.db"


@dataclass(frozen=True)
class TrackingConfig:
    """The store of runs and registered models."""

    uri: str = field(default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    """URI of the tracking store and registry: a server (`http://host:5000`) or a file (`sqlite:///` and its path).
    Default: the environment variable MLFLOW_TRACKING_URI, else a file below `build/`."""
    experiment: str = "shan"
    """Name of the MLflow experiment that contains the runs; created if it does not exist."""

    def __post_init__(self) -> None:
        """Makes the path of a file absolute, because other processes open it. Raises UserError for an invalid path."""
        path = self.uri.removeprefix(_SQLITE)
        if path not in ("", self.uri):
            object.__setattr__(self, "uri", f"{_SQLITE}{local_path(path, 'tracking.uri')}")


@dataclass(frozen=True)
class Tracking:
    """A tracking store that responded. It is small and picklable: workers and callbacks create clients from it."""

    uri: str
    experiment_id: str
    """Empty if the store does not have the experiment and nothing was to be created (`find_store`)."""

    def client(self) -> "MlflowClient":
        """Returns a client of this store and of its registry, which raises TrackingError if the store fails."""
        return _Client(self)

    @property
    def mlflow_uri(self) -> str:
        """The URI as MLflow takes it."""
        return mlflow_uri(Path(self.uri.removeprefix(_SQLITE))) if self.is_file else self.uri

    def create_run(self, name: str, tags: Mapping[str, str]) -> str:
        """Creates a run with these tags, MLflow's own (user, program, git commit), SUBMISSION and RUN_COMMAND.

        A run that no command creates, such as that of a trial, has no RUN_COMMAND, nor has one whose command is longer
        than a tag. Returns its id. The run has the status RUNNING until `running` or `closing` ends it. Raises
        UserError if this process would write its artifacts to a local folder, as with a SQLite file, and cannot.
        """
        from mlflow.tracking.context.registry import resolve_tags

        client = self.client()
        location = absolute(client.get_experiment(self.experiment_id).artifact_location)
        if location.startswith("/"):
            require_folder(location, f"the artifact folder of tracking.uri {redact(self.uri)},")
        submission = os.environ.get(SUBMISSION_VARIABLE)
        tags = {**tags, **({SUBMISSION: submission} if submission else {})}
        if (command := bound("command")) and len(command) <= failures.MAX_CHARS:
            tags[RUN_COMMAND] = command
        run = client.create_run(self.experiment_id, run_name=name, tags=resolve_tags(tags))
        run_id: str = run.info.run_id
        return run_id

    def require_run(self, run_id: str) -> "Run":
        """Returns a run. Raises UserError if this store has no such run."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client().get_run(run_id)
        except MlflowException as error:  # a store that fails raises TrackingError
            raise UserError(
                f"tracking.uri {redact(self.uri)} has no run {run_id}; set the URI of the store that has it"
            ) from error

    def require_active_run(self, run_id: str) -> None:
        """Raises UserError if this store has no such run, or if the run was deleted, so that nothing can be logged."""
        if self.require_run(run_id).info.lifecycle_stage == "deleted":
            raise UserError(
                f"run {run_id} was deleted; restore it with `python -m mlflow runs restore --run-id {run_id}`"
            )

    @contextmanager
    def running(self, run_id: str, is_lost: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Sets the run's status to RUNNING for the body, then to FINISHED, or as `closing` does."""
        client = self.client()
        client.update_run(run_id, status="RUNNING")
        with self.closing(run_id, is_lost):
            yield
        if not is_lost():
            client.set_terminated(run_id)

    @contextmanager
    def closing(self, run_id: str, is_lost: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Sets the run's status to FAILED if the body raises, or to KILLED at an interrupt, and records the error.

        The status is left alone after a LeaseLostError, and if `is_lost` returns that another process drives the run.
        If the status cannot be set, that is a warning: the error of the body is the one to report.
        """
        try:
            yield
        except LeaseLostError:
            raise
        except BaseException as error:
            self.end(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED", is_lost, error)
            raise

    def end(
        self,
        run_id: str,
        status: str,
        is_lost: Callable[[], bool] = lambda: False,
        error: BaseException | None = None,
    ) -> None:
        """Sets the status of a running run that does not finish, as `closing` does, and records its error.

        A run that has ended keeps its status: a sweep ends the run of a trial that it stops before the trial fails.
        """
        with outage_as_warning(f"run {run_id} could not be set to {status}"):
            if is_lost():
                return
            if self.client().get_run(run_id).info.status == "RUNNING":
                self.client().set_terminated(run_id, status)
            if error is not None:
                self.set_tags(run_id, {failures.TAG: failures.Failure.of(error).to_json()})

    def replace_tags(self, run_id: str, prefix: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a run, and then deletes its other tags with this prefix."""
        self.set_tags(run_id, tags)
        client = self.client()
        for name in client.get_run(run_id).data.tags:
            if name.startswith(prefix) and name not in tags:
                client.delete_tag(run_id, name)

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

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a run in one request."""
        from mlflow.entities import RunTag

        self.client().log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def connect(config: TrackingConfig) -> Tracking:
    """Connects to the store, to write runs: creates the file or the experiment if it does not exist.

    Raises UserError or TrackingError within seconds, with the fix, for a URI that is not a tracking store, a store that
    does not respond, refuses the request or has another format, and a deleted experiment.
    """
    return _open(config, *_resolve(config.uri), create=True)


def find_store(config: TrackingConfig) -> Tracking | None:
    """Connects as `connect` does, but creates nothing. Returns None if the file does not exist."""
    uri, file = _resolve(config.uri)
    return None if file is not None and database_is_missing(file) else _open(config, uri, file, create=False)


def require_store(config: TrackingConfig) -> Tracking:
    """Connects as `find_store` does. Raises UserError if the file does not exist."""
    if (found := find_store(config)) is None:
        uri, _ = _resolve(config.uri)
        raise UserError(
            f"tracking.uri {uri} does not exist; set it, or the environment variable MLFLOW_TRACKING_URI, to the store "
            "of the model or run"
        )
    return found


def _open(config: TrackingConfig, uri: str, file: Path | None, *, create: bool) -> Tracking:
    from mlflow.exceptions import MlflowException

    if file is None:
        require_server(uri, config.experiment)
    else:
        prepare_file(file)
    artifacts = None if file is None else (file.parent / "artifacts").as_uri()
    shown, client = f"tracking.experiment '{config.experiment}' at {redact(uri)}", Tracking(uri, "").client()
    try:
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None and not create:
            return Tracking(uri, "")
        if experiment is None:
            experiment = _created(client, config.experiment, artifacts)
    except MlflowException as error:
        raise UserError(f"{shown} is not valid ({reason_of(error)}); set another name") from error
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"{shown} is deleted; restore it with `mlflow experiments restore --experiment-id "
            f"{experiment.experiment_id}`, or set another name"
        )
    if file is None:
        require_artifact_root(shown, experiment.artifact_location)
    return Tracking(uri, experiment.experiment_id)


def _created(client: "MlflowClient", name: str, artifacts: str | None) -> Any:
    """Returns a new experiment, which stores artifacts at that URI, or where its server does."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_experiment(name, artifact_location=artifacts)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # created by another process at the same moment
            raise
    return client.get_experiment_by_name(name)


class _Client:
    """MLflow's client, whose methods raise TrackingError if the store fails."""

    def __init__(self, tracking: Tracking) -> None:
        import logging

        from mlflow import MlflowClient

        for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):  # they log what they raise or retry
            logging.getLogger(name).setLevel(logging.CRITICAL)
        os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")  # it may ask for hours
        self._uri = tracking.uri
        self._client = MlflowClient(tracking_uri=tracking.mlflow_uri, registry_uri=tracking.mlflow_uri)

    def __getattr__(self, name: str) -> Any:
        return explained(self._uri)(getattr(self._client, name))


def _resolve(uri: str) -> tuple[str, Path | None]:
    """Returns the URI with an absolute path, and the path if the store is a SQLite file."""
    if uri.startswith(("http://", "https://")):
        return uri, None
    if re.match(r"(postgresql|mysql|mssql)\b", uri, re.IGNORECASE):
        raise UserError(
            f"tracking.uri {redact(uri)} is a database, which cannot store models; start `mlflow server "
            "--backend-store-uri` on it and set tracking.uri to the server's http:// URI"
        )
    path = uri.removeprefix(_SQLITE)
    if path in ("", uri):
        raise UserError(f"tracking.uri {redact(uri)} is not a tracking store; use http://host:port or sqlite:///<file>")
    file = local_path(path, "tracking.uri")
    require_durable_path(file, "tracking.uri")
    return f"{_SQLITE}{file}", file
