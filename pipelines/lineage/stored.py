"""Checks of a stored feature set: index and receipts, manifest, and the fingerprint of its detector."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from infra.errors import StorageError, UserError
from pipelines.detectors import registry
from pipelines.features.feature_set import FeatureSet, MissingFeatureSetError
from pipelines.features.manifests import read_manifest
from pipelines.lineage.report import Check, Node, unreadable


def open_snapshot(uri: str) -> FeatureSet | Check:
    """Returns the feature set of a pinned URI, or why it cannot be opened."""
    try:
        return FeatureSet.open(uri)
    except MissingFeatureSetError:
        return Check("not checked", "it is not there: moved, deleted, or on another machine")
    except (UserError, StorageError) as error:
        return unreadable(error)


def feature_set_nodes(features: FeatureSet) -> list[Node]:
    """Returns manifest, detector and feature set with their checks."""
    index = features.index
    detector = index.detector
    fingerprint = check_fingerprint(detector.name, detector.settings, index.fingerprint, "the settings in the index")
    return [
        Node("manifest", f"{index.dataset}, {index.manifest[:12]}", (_check_manifest(features),)),
        Node("detector", index.fingerprint, (fingerprint,)),
        Node("feature set", features.pinned_uri, (check_receipts(features),)),
    ]


def unopened_nodes(uri: str, recorded: Mapping[str, str], reason: Check) -> list[Node]:
    """Returns the same three of a feature set that cannot be opened, as far as a run or version records them."""
    unchecked = (Check("not checked", "needs the feature set"),)
    return [
        Node("manifest", recorded.get("manifest", "unknown")[:12], unchecked),
        Node("detector", recorded.get("fingerprint", "unknown"), unchecked),
        Node("feature set", uri, (reason,)),
    ]


def check_receipts(features: FeatureSet) -> Check:
    """Reads every receipt and compares it with the index."""
    try:
        deque(features.receipts, maxlen=0)
    except (UserError, StorageError) as error:
        return unreadable(error)
    return Check("ok", f"index and {len(features.receipts)} receipts agree, and have this digest")


def check_fingerprint(name: str, settings: Mapping[str, Any], recorded: str, source: str) -> Check:
    """Computes the fingerprint of a detector from settings and weights; `source` is where those come from.

    Code of an earlier revision has another fingerprint, so these are tried as well.
    """
    if name not in registry.names() and not registry.is_plugin(name):
        return Check("not checked", f"the features were imported ({name}), not made by a detector of this project")
    try:
        spec = registry.resolve(name, settings)
        found = registry.fingerprint(name, spec)
        if found == recorded:
            return Check("ok", f"computed again from {source}: equal")
        for revision in range(1, getattr(spec, "revision", 1)):
            earlier = registry.resolve(name, {**settings, "revision": revision})
            if registry.fingerprint(name, earlier) == recorded:
                return Check("ok", f"computed again from {source} at revision {revision}: equal")
    except (UserError, OSError) as error:
        return Check("not checked", f"cannot be computed from {source} here: {error}")
    return Check("broken", f"computed from {source} it is {found}: settings or weights have changed")


def _check_manifest(features: FeatureSet) -> Check:
    try:
        manifest = read_manifest(features.store, features.index.manifest)
    except (UserError, StorageError) as error:
        return unreadable(error)
    return Check("ok", f"the stored manifest has this digest, {manifest.table.num_rows:,} photos")
