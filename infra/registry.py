"""The model registry: versions by name, and the alias `champion` on the one that users get."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import UserError
from infra.tracking import Tracking

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

CHAMPION = "champion"


@dataclass(frozen=True)
class PyfuncPackage:
    """What a registered model carries."""

    code: Path
    """The pyfunc, as a file of code (never pickled)."""
    package: Path
    """Folder of the package that the code imports."""
    artifacts: Mapping[str, Path]
    """Files and folders that the pyfunc reads, by name."""
    signature: "ModelSignature"
    requirements: list[str]
    """Exact requirements of an environment that can load it."""
    metadata: Mapping[str, Any]
    """Lineage; it stays with the model wherever it goes."""


def register(tracking: Tracking, run_id: str, name: str, package: PyfuncPackage) -> int:
    """Logs the model to its run and registers it; the number of the new version."""
    import mlflow

    mlflow.set_tracking_uri(tracking.uri)
    mlflow.set_registry_uri(tracking.uri)
    with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        # MLflow asks for an input example to check a signature that it would otherwise guess; ours is given.
        warnings.filterwarnings("ignore", message=".*input example.*", category=UserWarning)
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(package.code),
            code_paths=[str(package.package)],
            artifacts={key: str(path) for key, path in package.artifacts.items()},
            signature=package.signature,
            pip_requirements=package.requirements,
            metadata=dict(package.metadata),
        )
    client = tracking.client()
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    tags = {key: str(value) for key, value in package.metadata.items()}
    version = client.create_model_version(name, info.model_uri, run_id=run_id, tags=tags, model_id=info.model_id)
    return int(version.version)


def champion_version(tracking: Tracking, name: str) -> int | None:
    """The version that `models:/<name>@champion` means, or None while there is none."""
    models = tracking.client().search_registered_models(f"name = '{name}'")
    version = models[0].aliases.get(CHAMPION) if models else None
    return int(version) if version is not None else None


def set_champion(tracking: Tracking, name: str, version: int, tags: Mapping[str, str]) -> None:
    """Moves the alias and notes on the version why."""
    client = tracking.client()
    for key, value in tags.items():
        client.set_model_version_tag(name, str(version), key, value)
    client.set_registered_model_alias(name, CHAMPION, str(version))


def load_model(tracking: Tracking, uri: str) -> tuple[Any, dict[str, Any]]:
    """The Python model behind a `models:/...` or `runs:/...` URI and its metadata. UserError if there is none."""
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(tracking.uri)
    mlflow.set_registry_uri(tracking.uri)
    try:
        loaded = mlflow.pyfunc.load_model(uri)
    except (MlflowException, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{uri}: no such model at {tracking.uri} ({reason}); see the Models page of MLflow") from error
    return loaded.unwrap_python_model(), dict(loaded.metadata.metadata or {})
