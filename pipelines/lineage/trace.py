"""Traces versions, runs, feature sets and indexes: manifest -> detector -> feature set -> run -> version -> index."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import infra.tracking
from infra.errors import StorageError, UserError
from infra.registry import find_version
from infra.tracking import Tracking, TrackingConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import is_pinned
from pipelines.features.mlflow_lineage import FEATURE_SET_URI, RUN_TAGS, recorded_lineage
from pipelines.lineage.indexed import index_nodes
from pipelines.lineage.registered import find_run, missing_run_node, run_node, version_node
from pipelines.lineage.report import Check, Lineage, Node
from pipelines.lineage.stored import feature_set_nodes, open_snapshot, unopened_nodes
from pipelines.lineage.users import user_nodes, versions_of
from pipelines.search.index_format import is_search_index, read_index_document

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

URI_HELP = (
    "models:/<name>@champion, models:/<name>/<version>, runs:/<run id>, the URI of a search index, or the URI of a "
    "feature set, with all runs and versions that were made from any of its snapshots"
)


def trace(uri: str, config: TrackingConfig) -> Lineage:
    """Returns the lineage of a version, a run, an index or a feature set, with every check that is possible from here.

    Raises UserError if `uri` names nothing, and StorageError if the store that has it fails.
    """
    if uri.startswith("models:/"):
        tracking = infra.tracking.require_store(config)
        return Lineage(uri, tuple(_of_version(tracking, find_version(tracking, uri))))
    if uri.startswith("runs:/"):
        tracking = infra.tracking.require_store(config)
        run_id = uri.removeprefix("runs:/").strip("/")
        return Lineage(uri, tuple(_of_run(tracking, tracking.require_run(run_id))))
    if is_search_index(uri):
        store, document = read_index_document(uri)
        model = _model_nodes(document.model.uri, config)
        traced = [node.name for node in model if node.kind == "feature set"]
        return Lineage(uri, (*model, *index_nodes(store, document, config, traced)))
    features = FeatureSet.open(uri)
    return Lineage(
        uri, (*feature_set_nodes(features), *user_nodes(features, config, every_snapshot=not is_pinned(uri)))
    )


def _of_version(tracking: Tracking, version: "ModelVersion") -> list[Node]:
    run_id = version.run_id or version.tags.get("run", "")
    run = find_run(tracking, run_id)
    if run is None:
        reason = Check("not checked", "its URI and its digest are tags of the run")
        nodes = [*unopened_nodes("unknown", version.tags, reason), missing_run_node(run_id)]
    else:
        nodes = _up_to_run(run, version.tags)
    return [*nodes, version_node(tracking, version, run)]


def _model_nodes(uri: str, config: TrackingConfig) -> list[Node]:
    """Returns the nodes up to the version that encoded an index, as far as it can be reached."""
    if not uri.startswith("models:/"):
        return []
    try:
        tracking = infra.tracking.require_store(config)
        return _of_version(tracking, find_version(tracking, uri))
    except (UserError, StorageError) as error:
        return [Node("version", uri, (Check("not checked", str(error)),))]


def _of_run(tracking: Tracking, run: "Run") -> list[Node]:
    """Raises UserError for a run that read no feature set."""
    versions = versions_of(tracking, run.info.run_id)
    if not versions and run.data.tags.keys().isdisjoint(RUN_TAGS):
        raise UserError(
            f"runs:/{run.info.run_id} has no lineage (tags {FEATURE_SET_URI} and lineage.*); give a run of jobs.train"
        )
    nodes = _up_to_run(run, versions[0].tags if versions else {})
    return [*nodes, *(version_node(tracking, version, run) for version in versions)]


def _up_to_run(run: "Run", of_version: Mapping[str, str]) -> list[Node]:
    """Returns the nodes from the manifest to a run; tags that the run lacks are those of its version."""
    recorded = {**of_version, **recorded_lineage(run.data.tags)}
    uri, digest = run.data.tags.get(FEATURE_SET_URI), recorded.get("feature_set")
    if uri is None or digest is None:
        reason = Check("not checked", "its URI and its digest are tags of the run")
        return [*unopened_nodes(uri or "unknown", recorded, reason), run_node(run, None)]
    pinned = f"{uri}@{digest[:12]}"
    opened = open_snapshot(pinned)
    if isinstance(opened, Check):
        return [*unopened_nodes(pinned, recorded, opened), run_node(run, None)]
    return [*feature_set_nodes(opened), run_node(run, opened)]
