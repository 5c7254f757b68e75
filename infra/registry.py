"""The model registry: numbered versions under a name, and the alias `champion` on the version in use."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import StorageError, UserError
from infra.redaction import redact
from infra.storage.disk import names_full_disk
from infra.tracking import Tracking
from infra.tracking_errors import TrackingError, explained, reason_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

CHAMPION = "champion"
"""The alias that `models:/<name>@champion` resolves."""
HISTORY_TAG = "champions"
"""Tag of a registered model: the versions that were champion, oldest first, separated by spaces."""
MAX_HISTORY = 200
"""Versions that the tag keeps; MLflow limits a tag to 5,000 characters."""
_NO_SUCH_MODEL = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}
"""MLflow's codes for a name, version, alias or run that does not exist."""


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


def name_filter(name: str) -> str:
    """Returns MLflow's search filter for the model `name`, which may contain a quote."""
    quote = '"' if "'" in name else "'"
    return f"name = {quote}{name}{quote}"


def find_version(tracking: Tracking, uri: str) -> "ModelVersion":
    """Returns the version of a `models:/<name>@<alias>` or `models:/<name>/<version>` URI.

    Raises UserError if it does not exist.
    """
    from mlflow.exceptions import MlflowException

    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/([0-9]+))", uri)
    if match is None:
        raise UserError(f"{uri} is not the URI of a version; give models:/<name>@champion or models:/<name>/<version>")
    name, alias, number = match.groups()
    client = tracking.client()
    try:
        return client.get_model_version(name, number) if number else client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in _NO_SUCH_MODEL:
            raise _no_such_model(tracking, uri, error) from error
        raise


def champion_version(tracking: Tracking, name: str) -> int | None:
    """Returns the version that `models:/<name>@champion` resolves to, or None if there is no champion."""
    models = tracking.client().search_registered_models(name_filter(name))
    version = models[0].aliases.get(CHAMPION) if models else None
    return int(version) if version is not None else None


def champions(tracking: Tracking, name: str) -> list[int]:
    """Returns the versions that were champion, oldest first; the last one is the current champion.

    Versions that were rolled back or deleted are left out. The alias decides: entries of the history after it come from
    an interrupted promotion and are ignored, and a version whose alias was set by hand is appended.
    """
    champion = champion_version(tracking, name)
    if champion is None:
        return []
    client = tracking.client()
    history = [int(version) for version in client.get_registered_model(name).tags.get(HISTORY_TAG, "").split()]
    if champion in history:
        while history[-1] != champion:
            history.pop()
    else:
        history.append(champion)
    existing = {int(found.version) for found in client.search_model_versions(name_filter(name))}
    return [*(version for version in history[:-1] if version in existing), champion]


def set_champions(tracking: Tracking, name: str, history: Sequence[int]) -> None:
    """Moves the alias to the last version of `history`, then stores the history. Call it under `registry_lock`."""
    client = tracking.client()
    client.set_registered_model_alias(name, CHAMPION, str(history[-1]))
    client.set_registered_model_tag(name, HISTORY_TAG, " ".join(map(str, history[-MAX_HISTORY:])))


def annotate(tracking: Tracking, name: str, version: int, tags: Mapping[str, object], card: str | None = None) -> None:
    """Sets tags of a version and, if given, its description in Markdown."""
    client = tracking.client()
    for key, value in tags.items():
        client.set_model_version_tag(name, str(version), key, str(value))
    if card is not None:
        client.update_model_version(name, str(version), card)


def download_model(tracking: Tracking, uri: str, artifact: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Copies the model of a `models:/...` or `runs:/...` URI into `folder`. Executes none of its code.

    Returns the path of the artifact with this name, and the model's metadata. Raises UserError if the model does not
    exist or has no such artifact, and StorageError if its files cannot be read.
    """
    import mlflow
    import yaml
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    mlflow.set_tracking_uri(tracking.mlflow_uri)
    mlflow.set_registry_uri(tracking.mlflow_uri)
    try:
        full_disk = names_full_disk(folder, "free space, or set TMPDIR to a folder on a larger disk")
        with full_disk, explained(tracking.uri, "downloading the model from"):
            root = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder))).resolve()
    except TrackingError:
        raise
    except (MlflowException, OSError) as error:  # MLflow raises OSError for a missing file of a local store
        if isinstance(error, OSError) or error.error_code in _NO_SUCH_MODEL:
            raise _no_such_model(tracking, uri, error) from error
        problem = f"at {redact(tracking.uri)} ({reason_of(error)})"
        raise StorageError(f"{uri}: its files cannot be read {problem}; check where they are stored") from error
    try:
        model = Model.load(str(root))
        found = (root / model.flavors["python_function"]["artifacts"][artifact]["path"]).resolve()
        metadata = dict(model.metadata or {})
    except (MlflowException, yaml.YAMLError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{uri}: not a model of this project (its MLmodel has no artifact '{artifact}'); give a version that "
            "jobs.train registered"
        ) from error
    if not found.is_relative_to(root):
        raise UserError(f"{uri}: its MLmodel has a path outside of the model (path traversal); do not use this model")
    return found, metadata


def _no_such_model(tracking: Tracking, uri: str, error: Exception) -> UserError:
    problem = f"at {redact(tracking.uri)} ({reason_of(error)})"
    return UserError(f"{uri}: no such model {problem}; MLflow's Models page lists what exists")
