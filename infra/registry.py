"""The model registry: versions by name, and the alias `champion` on the one that users get."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import UserError
from infra.redaction import redact
from infra.tracking import Tracking

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

CHAMPION = "champion"
HISTORY = "champions"
"""Tag of a registered model: versions that were champion, oldest first."""
MOST_NOTED = 200
"""Of them; a tag holds 5,000 letters."""


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


def register(
    tracking: Tracking, run_id: str, name: str, package: PyfuncPackage, at_last: Callable[[], None] = lambda: None
) -> int:
    """Logs the model to its run and registers it; the number of the version. A run is registered once.

    `at_last` is called right before the version is made, minutes later where the server was away; it may raise.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client = tracking.client()
    for version in client.search_model_versions(f"{named(name)} and run_id = '{run_id}'"):
        return int(version.version)
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
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {key: str(value) for key, value in package.metadata.items()}
    at_last()
    version = client.create_model_version(name, info.model_uri, run_id=run_id, tags=tags, model_id=info.model_id)
    return int(version.version)


def named(name: str) -> str:
    """MLflow's filter for a model of that name, which other people may have given a quote."""
    quote = '"' if "'" in name else "'"
    return f"name = {quote}{name}{quote}"


def champion_version(tracking: Tracking, name: str) -> int | None:
    """The version that `models:/<name>@champion` means, or None while there is none."""
    models = tracking.client().search_registered_models(named(name))
    version = models[0].aliases.get(CHAMPION) if models else None
    return int(version) if version is not None else None


def champions(tracking: Tracking, name: str) -> list[int]:
    """Versions that were champion, oldest first, without those rolled back and those deleted; the last one is it now.

    The alias is the truth: what the history notes after it is a move that was cut off, and an alias that was set by
    hand is taken in.
    """
    champion = champion_version(tracking, name)
    if champion is None:
        return []
    client = tracking.client()
    noted = [int(version) for version in client.get_registered_model(name).tags.get(HISTORY, "").split()]
    if champion in noted:
        while noted[-1] != champion:
            noted.pop()
    else:
        noted.append(champion)
    there = {int(found.version) for found in client.search_model_versions(named(name))}
    return [*(version for version in noted[:-1] if version in there), champion]


def set_champions(tracking: Tracking, name: str, history: Sequence[int]) -> None:
    """Moves the alias to the last of `history`, then notes the history. One process at a time: `registry_lock`."""
    client = tracking.client()
    client.set_registered_model_alias(name, CHAMPION, str(history[-1]))
    client.set_registered_model_tag(name, HISTORY, " ".join(map(str, history[-MOST_NOTED:])))


def annotate(tracking: Tracking, name: str, version: int, tags: Mapping[str, object], card: str | None = None) -> None:
    """Tags of a version and, if given, its description in Markdown."""
    client = tracking.client()
    for key, value in tags.items():
        client.set_model_version_tag(name, str(version), key, str(value))
    if card is not None:
        client.update_model_version(name, str(version), card)


def download_model(tracking: Tracking, uri: str, artifact: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Copies a model behind a `models:/...` or `runs:/...` URI into `folder`; where the artifact is, and the metadata.

    Nothing of what a model carries is run. UserError if there is none, or it has no such artifact.
    """
    import mlflow
    import yaml
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    mlflow.set_tracking_uri(tracking.uri)
    mlflow.set_registry_uri(tracking.uri)
    try:
        place = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder))).resolve()
    except (MlflowException, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(
            f"{uri}: no such model at {redact(tracking.uri)} ({redact(reason)}); see the Models page of MLflow"
        ) from error
    try:
        model = Model.load(str(place))
        found = (place / model.flavors["python_function"]["artifacts"][artifact]["path"]).resolve()
        lineage = dict(model.metadata or {})
    except (MlflowException, yaml.YAMLError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{uri}: no model of ours (its MLmodel names no {artifact}); name one that jobs.train registered"
        ) from error
    if not found.is_relative_to(place):
        raise UserError(f"{uri}: its MLmodel points outside of the model; do not trust it")
    return found, lineage
