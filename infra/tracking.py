"""MLflow tracking: where runs go, and whether anybody answers there before work begins."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs and models are kept."""

    uri: str = "sqlite:///build/mlflow/mlflow.db"
    """Tracking and registry: a server (`http://host:5000`) or a SQLite file. A relative file is below this folder."""
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

    @contextmanager
    def run(self, name: str, tags: Mapping[str, str]) -> Iterator[str]:
        """A new run, by id; it ends FINISHED, or FAILED if the body raises, or KILLED if it is interrupted."""
        client = self.client()
        run_id = client.create_run(self.experiment_id, run_name=name, tags=dict(tags)).info.run_id
        try:
            yield run_id
        except KeyboardInterrupt:
            client.set_terminated(run_id, "KILLED")
            raise
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """All parameters of a run by one call; they cannot be changed afterwards."""
        from mlflow.entities import Param

        self.client().log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Metrics of one step by one call."""
        self.log_history(run_id, [(step, metrics)])

    def log_history(self, run_id: str, history: list[tuple[int, Mapping[str, float]]]) -> None:
        """Metrics of many steps by one call per thousand values, MLflow's limit."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = [Metric(k, float(v), now, step) for step, metrics in history for k, v in metrics.items()]
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
                else client.create_experiment(config.experiment, artifact_location=_artifacts(uri))
            )
        except Exception as error:  # MLflow, SQLAlchemy and requests each have their own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise UserError(
                f"tracking.uri {redact(uri)} does not answer ({redact(reason)}); start its server or use sqlite:///<file>"
            ) from error
    if experiment is not None and experiment.lifecycle_stage != "active":
        raise UserError(f"experiment {config.experiment} at {uri} is deleted; restore it or name another one")
    return Tracking(uri, experiment_id)


def redact(text: str) -> str:
    """The text without the user and password of any URI in it: they are neither printed nor logged."""
    return re.sub(r"(?<=://)[^@/\s]+@", "", text)


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
        raise UserError(f"tracking.uri {uri} is no tracking store; use http://host:port or sqlite:///<file>")
    file = Path(uri.removeprefix(_SQLITE)).absolute()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"tracking.uri {uri}: cannot make its folder ({error.strerror}); choose another") from error
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
