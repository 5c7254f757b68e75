"""The model registry: numbered versions under a name, and the alias `champion` on the version in use."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from infra.errors import CorruptDataError, UserError
from infra.redaction import redact
from infra.tracking import Tracking
from infra.tracking_errors import reason_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
"""The alias that `models:/<name>@champion` resolves."""
HISTORY_TAG = "champions"
"""Tag of a registered model: the versions that were champion, oldest first, separated by spaces."""
MAX_HISTORY = 200
"""Versions that the tag keeps; MLflow limits a tag to 5,000 characters."""
MAX_VERSION = 2**31 - 1
"""Largest number that MLflow's database can hold; for a larger one its error is that of the database."""
NO_SUCH_MODEL = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}
"""MLflow's codes for a name, version, alias or run that does not exist."""


def name_filter(name: str) -> str:
    """Returns MLflow's search filter for the model `name`, which may contain a quote.

    Raises UserError for a name with both kinds of quotes, which a filter cannot contain.
    """
    if "'" in name and '"' in name:
        raise UserError(f"MLflow cannot search for the model name {name}, which has ' and \"; use another name")
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
    if number and int(number) > MAX_VERSION:
        raise CorruptDataError(f"{uri}: no such model; the largest version is {MAX_VERSION}")
    client = tracking.client()
    try:
        return client.get_model_version(name, number) if number else client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in NO_SUCH_MODEL:
            raise no_such_model(tracking, uri, error) from error
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
    tag = client.get_registered_model(name).tags.get(HISTORY_TAG, "")
    if not re.fullmatch(r"[0-9 ]*", tag):
        raise UserError(
            f"the tag {HISTORY_TAG} of the model {name} is {tag[:80]!r}; set it to the numbers of the versions that "
            "were champion, oldest first, separated by spaces"
        )
    history = [int(version) for version in tag.split()]
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


def no_such_model(tracking: Tracking, uri: str, error: Exception) -> CorruptDataError:
    """Returns the error for the URI of a model that does not exist."""
    problem = f"at {redact(tracking.uri)} ({reason_of(error)})"
    return CorruptDataError(f"{uri}: no such model {problem}; MLflow's Models page lists what exists")
