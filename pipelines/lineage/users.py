"""The runs and versions that were made from a feature set, from its other snapshots too."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import infra.tracking
from infra.errors import StorageError, UserError
from infra.tracking import Tracking, TrackingConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import snapshot_digests
from pipelines.features.mlflow_lineage import readers_at_filter, readers_filter, recorded_lineage
from pipelines.lineage.registered import find_run, missing_run_node, run_node, version_node
from pipelines.lineage.report import Check, Node
from pipelines.lineage.stored import feature_set_nodes, open_snapshot

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class _User:
    """A run and its versions."""

    run_id: str
    run: "Run | None"
    """None if the tracking store does not have it any more."""
    versions: "list[ModelVersion]"

    @property
    def snapshot(self) -> str:
        """The first 12 hex digits of the feature set that the run read; empty if nothing records it."""
        recorded = recorded_lineage(self.run.data.tags) if self.run is not None else {}
        tagged = (version.tags.get("feature_set", "") for version in self.versions)
        return (recorded.get("feature_set") or next(tagged, ""))[:12]

    @property
    def is_deleted(self) -> bool:
        """Whether nothing that can be used is left of it."""
        return not self.versions and (self.run is None or self.run.info.lifecycle_stage == "deleted")


def user_nodes(features: FeatureSet, config: TrackingConfig, every_snapshot: bool) -> list[Node]:
    """Returns the runs that read a feature set and the versions of each, after those the other snapshots with theirs.

    Deleted runs are left out unless a version remains. `every_snapshot` includes the other snapshots of its folder.
    """
    try:
        tracking = infra.tracking.find_store(config)
        if tracking is None:
            return [Node("run", "unknown", (Check("not checked", f"tracking.uri {config.uri} does not exist"),))]
        users = _users(tracking, features, every_snapshot)
    except (UserError, StorageError) as error:
        return [Node("run", "unknown", (Check("not checked", str(error)),))]
    asked = features.index.feature_set[:12]
    by_snapshot: dict[str, list[_User]] = {asked: []}
    for user in users:
        by_snapshot.setdefault(user.snapshot or asked, []).append(user)
    nodes = []
    for digest, found in by_snapshot.items():
        opened = features if digest == asked else open_snapshot(f"{features.uri}@{digest}")
        if isinstance(opened, Check):
            nodes.append(Node("feature set", f"{features.uri}@{digest}", (opened,)))
        elif opened is not features:
            nodes += feature_set_nodes(opened)
        for user in found:
            nodes += _nodes_of(tracking, user, None if isinstance(opened, Check) else opened)
    return nodes


def versions_of(tracking: Tracking, run_id: str) -> "list[ModelVersion]":
    """Returns the versions that a run registered, by name and number."""
    found = tracking.client().search_model_versions(f"run_id = '{run_id}'")
    return sorted(found, key=lambda version: (version.name, int(version.version)))


def _nodes_of(tracking: Tracking, user: _User, features: FeatureSet | None) -> list[Node]:
    run = missing_run_node(user.run_id) if user.run is None else run_node(user.run, features)
    return [run, *(version_node(tracking, version, user.run) for version in user.versions)]


def _users(tracking: Tracking, features: FeatureSet, every_snapshot: bool) -> list[_User]:
    """Finds runs by their tags, and versions by theirs as well, since tags of a run, or the run, may be deleted."""
    from mlflow.entities import ViewType

    client = tracking.client()
    digests = {features.index.feature_set[:12]}
    if every_snapshot:
        digests.update(snapshot_digests(features.store.objects()))
    filters = [readers_filter(digest) for digest in sorted(digests)]
    if every_snapshot:
        filters.append(readers_at_filter(features.uri))
    experiments = [each.experiment_id for each in _pages(partial(client.search_experiments, ViewType.ALL))]
    runs: dict[str, Run | None] = {}
    for text in filters:
        for run in _pages(partial(client.search_runs, experiments, text, ViewType.ALL)):
            runs[run.info.run_id] = run
    for digest in sorted(digests):
        for version in _pages(partial(client.search_model_versions, f"tags.feature_set LIKE '{digest}%'")):
            if version.run_id and version.run_id not in runs:
                runs[version.run_id] = find_run(tracking, version.run_id)
    users = (_User(run_id, run, versions_of(tracking, run_id)) for run_id, run in runs.items())
    return [user for user in users if not user.is_deleted]


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yields the results of a search of MLflow, which returns pages of them."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        if not (token := page.token):
            return
