"""The files of registered models: logs and registers them, and downloads them again."""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import CorruptDataError, StorageError
from infra.paths import exists
from infra.redaction import redact
from infra.registry import NO_SUCH_MODEL, name_filter, no_such_model
from infra.storage.disk import names_full_disk
from infra.storage.process_folder import temporary_folder
from infra.tracking import Tracking
from infra.tracking_errors import TrackingError, explained

if TYPE_CHECKING:
    from mlflow.models import ModelSignature


DOWNLOADS = 3
"""Attempts to download a model whose connection breaks, a second apart."""


@dataclass(frozen=True)
class PyfuncPackage:
    """The content of a registered model."""

    code: Path
    """Python file that defines the pyfunc ("models from code": nothing is pickled)."""
    package: Path
    """Folder of the package that the code imports."""
    artifacts: Mapping[str, Path]
    """Files and folders that the pyfunc reads, by name."""
    signature: "ModelSignature"
    input_example: Any
    """An input with which MLflow validates the model and which its page shows."""
    model_config: Mapping[str, Any]
    """Values that a consumer can replace when loading the model."""
    requirements: list[str]
    """Exact pip requirements of an environment that can load the model."""
    metadata: Mapping[str, Any]
    """Lineage. It is stored in the model and as tags of its version."""

    def arguments(self) -> dict[str, Any]:
        """Returns it as keyword arguments of MLflow's `Model.log` and `pyfunc.save_model`."""
        return {
            "python_model": str(self.code),
            "code_paths": [str(self.package)],
            "artifacts": {key: str(path) for key, path in self.artifacts.items()},
            "signature": self.signature,
            "input_example": self.input_example,
            "model_config": dict(self.model_config) or None,
            "pip_requirements": self.requirements,
            "metadata": dict(self.metadata),
        }


def register(
    tracking: Tracking,
    run_id: str,
    name: str,
    package: PyfuncPackage,
    before_register: Callable[[], None] = lambda: None,
) -> int:
    """Logs the model to its run, registers it under `name` and returns the number of the new version.

    A run is registered once: a second call returns the existing version. `before_register` is called between logging
    and registering (which may be minutes apart if the server was unreachable); it raises to prevent the registration.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    client = tracking.client()
    for version in client.search_model_versions(f"{name_filter(name)} and run_id = '{run_id}'"):
        return int(version.version)
    mlflow.set_tracking_uri(tracking.mlflow_uri)
    mlflow.set_registry_uri(tracking.mlflow_uri)
    # Its INFO lines report the validation of the input example.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    with explained(tracking.uri, "checking the model and storing it at"):
        # `pyfunc.log_model` would need `start_run`, which ends the run, also if another process drives it by now.
        params = client.get_run(run_id).data.params
        logged = client.create_logged_model(tracking.experiment_id, "model", run_id, params=params)
        with _writing_no_bytecode():
            info = Model.log(
                artifact_path=None,
                name="model",
                flavor=mlflow.pyfunc,
                run_id=run_id,
                model_id=logged.model_id,
                **package.arguments(),
            )
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {key: str(value) for key, value in package.metadata.items()}
    before_register()
    version = client.create_model_version(name, info.model_uri, run_id=run_id, tags=tags, model_id=info.model_id)
    return int(version.version)


@contextmanager
def _writing_no_bytecode() -> Iterator[None]:
    """Keeps Python from writing bytecode of the model's code, which MLflow imports to validate it and then stores."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextmanager
def download_folder() -> Iterator[Path]:
    """Yields a temporary folder for `download_artifact`.

    At an interrupt, threads of MLflow may still write to it. What they leave behind stays until the next download.
    """
    with temporary_folder("shan-model-") as folder:
        yield folder


@dataclass(frozen=True)
class StoredModel:
    """A local copy of a model, whose MLmodel is not trusted."""

    uri: str
    root: Path
    flavor: Mapping[str, Any]
    """What MLmodel states of the pyfunc."""
    metadata: dict[str, Any]

    def artifact(self, name: str) -> Path:
        """Returns the path of an artifact. Raises CorruptDataError if the model has no such artifact."""
        return self._path(lambda: self.flavor["artifacts"][name]["path"], f"artifact '{name}'")

    def script(self) -> Path:
        """Returns the path of the file that defines the pyfunc. Raises CorruptDataError if it is not there."""
        return self._path(lambda: Path(self.flavor["model_code_path"]).name, "model_code_path")

    def code(self) -> list[Path]:
        """Returns what the pyfunc may import: the content of its code folder. Raises CorruptDataError without one."""
        return list(self._path(lambda: self.flavor["code"], "code").iterdir())

    def _path(self, relative: Callable[[], str], what: str) -> Path:
        try:
            found = (self.root / relative()).resolve()
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise _foreign(self.uri, what) from error
        if not found.is_relative_to(self.root):
            raise CorruptDataError(
                f"{self.uri}: its MLmodel has a path outside of the model (path traversal); do not use this model"
            )
        if not exists(found):
            raise CorruptDataError(f"{self.uri}: {found.relative_to(self.root)} is missing; use another version")
        return found


def download_model(tracking: Tracking, uri: str, folder: Path) -> StoredModel:
    """Copies the model of a `models:/...` or `runs:/...` URI into `folder`. Executes none of its code.

    Raises CorruptDataError if the model does not exist or is not a pyfunc, StorageError if its files cannot be read,
    and UserError if this disk is full.
    """
    import yaml
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    root = download_artifact(tracking, uri, folder, "downloading the model from").resolve()
    try:
        model = Model.load(str(root))
        return StoredModel(uri, root, dict(model.flavors["python_function"]), dict(model.metadata or {}))
    except (MlflowException, yaml.YAMLError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _foreign(uri, "python_function") from error


def _foreign(uri: str, missing: str) -> CorruptDataError:
    return CorruptDataError(
        f"{uri}: not a model of this project (its MLmodel has no {missing}); give a version that jobs.train registered"
    )


def download_artifact(tracking: Tracking, uri: str, folder: Path, transfer: str) -> Path:
    """Copies an artifact into `folder`. MLflow repeats requests, but not a download whose connection breaks.

    `transfer` describes the work for `explained`. Raises CorruptDataError if the artifact does not exist, StorageError
    if it cannot be read, and UserError if this disk is full.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(tracking.mlflow_uri)
    mlflow.set_registry_uri(tracking.mlflow_uri)
    full_disk = partial(names_full_disk, folder, "free space, or set TMPDIR to a folder on a larger disk")
    for attempt in range(1, DOWNLOADS + 1):
        try:
            with full_disk(), explained(tracking.uri, transfer):
                return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
        except TrackingError:
            raise
        except (MlflowException, OSError) as error:  # MLflow raises OSError for a missing file of a local store
            is_missing = isinstance(error, OSError) or error.error_code in NO_SUCH_MODEL
            if is_missing and not _is_listed(tracking, uri):
                raise no_such_model(tracking, uri, error) from error
            if attempt == DOWNLOADS or "Max retries exceeded" in str(error):
                raise _unreadable(tracking, uri, error) from error
        time.sleep(1)
    raise AssertionError("the last attempt returns or raises")


def _is_listed(tracking: Tracking, uri: str) -> bool:
    """Returns whether a run has the artifact of a `runs:/` URI. For those, MLflow calls any failed download missing."""
    from mlflow.exceptions import MlflowException

    if (match := re.fullmatch(r"runs:/([^/]+)/(.+?)/*", uri)) is None:
        return False
    run_id, path = match.groups()
    parent = path.rpartition("/")[0]
    client = tracking.client()
    try:
        files = client.list_artifacts(run_id, path) + client.list_artifacts(run_id, parent or None)
    except MlflowException:  # no such run
        return False
    return any(f"{file.path}/".startswith(f"{path}/") for file in files)


def _unreadable(tracking: Tracking, uri: str, error: Exception) -> StorageError:
    """Returns the error with the cause, which is the last line of MLflow's message; the first names the artifact."""
    cause = redact(str(error).strip().splitlines()[-1])[:300]
    return StorageError(
        f"{uri}: its files cannot be read at {redact(tracking.uri)} ({cause}); check where they are stored, then "
        "re-run the command"
    )
