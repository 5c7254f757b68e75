"""Checks of a search index: its receipts, the feature sets that it encodes, and the model that encoded it."""

from collections.abc import Collection
from dataclasses import replace

import infra.tracking
from infra.errors import StorageError, UserError
from infra.storage.base import Store
from infra.tracking import TrackingConfig
from pipelines.lineage.report import Check, Node, unreadable
from pipelines.lineage.stored import feature_set_nodes, open_snapshot
from pipelines.models.load import is_registered, load_model
from pipelines.search.index_format import IndexDocument, IndexedFeatures, IndexedModel
from pipelines.search.partition import read_partition_receipt


def index_nodes(store: Store, document: IndexDocument, config: TrackingConfig, traced: Collection[str]) -> list[Node]:
    """Returns the feature sets whose photos are in an index, with manifest and detector, and the index.

    `traced` are the URIs of feature sets whose manifest, detector and receipts are checked already.
    """
    features = [
        node for found in document.features for node in _features_nodes(found, document.model, found.uri in traced)
    ]
    checks = (_receipts_check(store, document), _model_check(document.model, config))
    return [*features, Node("index", f"{store.uri}@{document.index[:12]}", checks)]


def _features_nodes(recorded: IndexedFeatures, model: IndexedModel, is_traced: bool) -> list[Node]:
    opened = open_snapshot(recorded.uri)
    if isinstance(opened, Check):
        return [Node("feature set", recorded.uri, (opened,))]
    found = opened.lineage
    link = Check("ok", "digest and fingerprint equal those of the index")
    if (found["feature_set"], found["fingerprint"]) != (recorded.feature_set, model.fingerprint):
        link = Check("broken", "its digest or fingerprint is not the one that the index records")
    if is_traced:
        return [Node("feature set", recorded.uri, (link,))]
    manifest, detector, features = feature_set_nodes(opened)
    return [manifest, detector, replace(features, checks=(*features.checks, link))]


def _receipts_check(store: Store, document: IndexDocument) -> Check:
    partitions = document.receipts().values()
    try:
        differing = [p.name for p in partitions if read_partition_receipt(store, p.name) != p]
    except (UserError, StorageError) as error:
        return unreadable(error)
    if differing:
        return Check("broken", f"the receipt of {differing[0]} is missing, corrupt or differs from the index")
    return Check("ok", f"index and {len(partitions)} receipts agree, and have this digest")


def _model_check(recorded: IndexedModel, config: TrackingConfig) -> Check:
    """Compares the files of the model with those that encoded the index."""
    try:
        tracking = infra.tracking.require_store(config) if is_registered(recorded.uri) else None
        found = load_model(tracking, recorded.uri)
    except (UserError, StorageError) as error:
        return Check("not checked", f"{recorded.uri}: {error}")
    if found.digest != recorded.digest:
        return Check("broken", f"{recorded.uri} does not have the files that encoded the index")
    return Check("ok", f"{recorded.uri} has the files that encoded it")
