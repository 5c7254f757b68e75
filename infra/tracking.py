"""MLflow tracking: where runs go, and whether anybody answers there before work begins."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import TakenOverError, UserError
from infra.redaction import redact
from infra.storage.open import require_durable_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
DEFAULT_URI = f"{_SQLITE}build/mlflow/mlflow.db"


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs and models are kept."""

    uri: str = field(default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    """Tracking and registry: a server (`http://host:5000`) or a SQLite file. A relative file is below this folder. What
    MLFLOW_TRACKING_URI names, if it is set."""
    experiment: str = "shan"
    """Experiment that runs are filed under."""


@dataclass(frozen=True)
class Tracking:
    """A tracking store that answered. Small and picklable: workers and callbacks make their own client from it."""

    uri: str
    experiment_id: str

    def client(self) -> "MlflowClient":
        """A client of this store and of its registry."""
        return _client(self.uri)

    def create_run(self, name: str, tags: Mapping[str, str]) -> str:
        """A new run, by id, with MLflow's own tags (user, command, git commit) and these. It counts as running until
        `running` has seen it end.
        """
        from mlflow.tracking.context.registry import resolve_tags

        run = self.client().create_run(self.experiment_id, run_name=name, tags=resolve_tags(dict(tags)))
        run_id: str = run.info.run_id
        return run_id

    def require_run(self, run_id: str) -> None:
        """UserError if this store has no such run."""
        from mlflow.exceptions import MlflowException

        try:
            self.client().get_run(run_id)
        except MlflowException as error:
            raise UserError(f"tracking.uri {redact(self.uri)} has no run {run_id}; name the store it is in") from error

    @contextmanager
    def running(self, run_id: str) -> Iterator[None]:
        """The run goes on in the body; it ends FINISHED, or FAILED if that raises, or KILLED if it is interrupted.

        It does not end here if another process has taken it over.
        """
        client = self.client()
        client.update_run(run_id, status="RUNNING")
        try:
            yield
        except TakenOverError:
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
        """Whether only processes of this machine reach it."""
        return self.uri.startswith(_SQLITE)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """All parameters of a run by one call; they cannot be changed afterwards."""
        from mlflow.entities import Param

        self.client().log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Metrics of one step by one call."""
        import time

        self.log_rows(run_id, [(step, time.time_ns() // 1_000_000, metrics)])

    def log_rows(self, run_id: str, rows: Sequence[tuple[int, int, Mapping[str, float]]]) -> None:
        """Metrics of many (step, milliseconds since 1970), by one call per thousand values, MLflow's limit.

        A row that is sent twice is there once: MLflow's stores know it by its time.
        """
        from mlflow.entities import Metric

        values = [Metric(key, float(v), at, step) for step, at, metrics in rows for key, v in metrics.items()]
        client = self.client()
        for start in range(0, len(values), 1000):
            client.log_batch(run_id, metrics=values[start : start + 1000])


def connect(config: TrackingConfig) -> Tracking:
    """Asks the store for its experiment, making it if need be. UserError if the URI is of no use or does not answer."""
    uri = _resolve(config.uri)
    # MLflow retries for minutes by default; the question whether a server is there deserves seconds.
    patience = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    with _environment(patience):
        try:
            client = _client(uri)
            experiment = client.get_experiment_by_name(config.experiment)
            experiment_id = (
                experiment.experiment_id
                if experiment is not None
                else _made_experiment(client, config.experiment, _artifacts(uri))
            )
        except Exception as error:  # MLflow, SQLAlchemy and requests each have their own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise UserError(
                f"tracking.uri {redact(uri)} does not answer ({redact(reason)}); start its server or use sqlite:///<file>"
            ) from error
    if experiment is not None and experiment.lifecycle_stage != "active":
        raise UserError(f"experiment {config.experiment} at {redact(uri)} is deleted; restore it or name another one")
    return Tracking(uri, experiment_id)


def _made_experiment(client: "MlflowClient", name: str, artifacts: str | None) -> str:
    """Id of a new experiment, or of the one that another process made just now."""
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

    for name in ("alembic", "mlflow.store.db.utils"):  # 60 lines of migrations on a new SQLite file
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _resolve(uri: str) -> str:
    if uri.startswith(("http://", "https://", "postgresql", "mysql", "databricks")):
        return uri
    if not uri.startswith(_SQLITE):
        raise UserError(f"tracking.uri {redact(uri)} is no tracking store; use http://host:port or sqlite:///<file>")
    require_durable_path(uri.removeprefix(_SQLITE), "tracking.uri")
    file = Path(uri.removeprefix(_SQLITE)).absolute()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"tracking.uri {redact(uri)}: cannot make its folder ({error.strerror}); choose another"
        ) from error
    return f"{_SQLITE}{file}"


def _artifacts(uri: str) -> str | None:
    """Beside a SQLite file; a server decides for itself."""
    return str(Path(uri.removeprefix(_SQLITE)).parent / "artifacts") if uri.startswith(_SQLITE) else None


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
