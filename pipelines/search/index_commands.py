"""The work of `jobs.index`: resolves the model, shows progress, and returns results as text."""

from collections.abc import Sequence
from dataclasses import replace

import infra.tracking
from infra.cluster import ClusterConfig
from infra.paths import absolute
from infra.progress import counted_bar
from infra.registry import find_version
from infra.tracking import TrackingConfig
from pipelines.features.commands import delete_listed
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import open_all_snapshots
from pipelines.features.summary import megabytes
from pipelines.features.text_report import error_lines, list_orphans
from pipelines.models.load import LoadedModel, is_registered, load_model
from pipelines.search.config import IndexConfig
from pipelines.search.index_build import IndexBuild, build_index
from pipelines.search.index_format import Gallery
from pipelines.search.index_orphans import IndexOrphans, find_index_orphans
from pipelines.search.index_verify import IndexVerification, verify_index


def index_features(
    model: str,
    features: Sequence[str],
    config: IndexConfig,
    tracking: TrackingConfig,
    cluster: ClusterConfig,
) -> str:
    """Builds or extends the index of feature sets by a model, and returns what it has as text."""
    feature_sets = [FeatureSet.open(uri) for uri in features]
    found = load_version(model, tracking)
    return build_text(build_with_progress_bar(found, feature_sets, config, cluster))


def build_with_progress_bar(
    model: LoadedModel, features: Sequence[FeatureSet], config: IndexConfig, cluster: ClusterConfig
) -> IndexBuild:
    """Builds or extends an index."""
    with counted_bar("index", "photo") as show:  # a photo counts once for each gallery
        return build_index(model, features, config, cluster, show)


def load_version(uri: str, config: TrackingConfig) -> LoadedModel:
    """Returns a model on the CPU, with a URI that means the same later and in other folders.

    An alias is replaced by the version that it resolves to, a relative path by an absolute one.
    """
    if not is_registered(uri):
        return load_model(None, absolute(uri, "--model"))
    tracking = infra.tracking.require_store(config)
    if uri.startswith("models:/"):
        version = find_version(tracking, uri)
        uri = f"models:/{version.name}/{version.version}"
    return replace(load_model(tracking, uri), uri=uri)


def build_text(build: IndexBuild) -> str:
    """Returns the URI, the galleries and this run's part in them."""
    document = build.document
    total = len(document.receipts())
    lines = [build.uri, f"  model {document.model.uri}, {len(document.features)} feature sets"]
    lines += [f"  {gallery.items} {name} {_gallery_text(gallery)}" for name, gallery in document.galleries.items()]
    reused = max(total - build.partitions_written, 0)
    return "\n".join([*lines, f"  {build.partitions_written} partitions written now, {reused} reused"])


def _gallery_text(gallery: Gallery) -> str:
    search = gallery.first_stage
    lists = "" if search.centroids is None else f", {search.probes} lists of a query"
    size = megabytes(sum(partition.size for partition in gallery.partitions))
    return f"in {len(gallery.partitions)} partitions, {size}; candidate search {search.kind}{lists}"


def verify_index_with_progress_bar(uri: str) -> IndexVerification:
    """Reads and checks the index at `uri`."""
    with counted_bar("verify", "object") as show:
        return verify_index(uri, show)


def verification_text(found: IndexVerification) -> str:
    """Returns the integrity errors, and how much was read."""
    items = ", ".join(f"{count} {name}" for name, count in found.items.items())
    read = f"  {found.partitions} partitions, {items}, {megabytes(found.size)} in {found.seconds:.1f} s"
    return "\n".join([*error_lines(found.uri, found.errors), read])


def clean_up_index(uri: str, delete: bool, unfinished: bool, earlier_snapshots: bool) -> str:
    """Lists the orphaned objects of an index, deletes them with `delete`, and returns both as text.

    Complete partitions of unfinished builds are deleted only with `unfinished`. Raises UserError for a snapshot.
    """
    store = open_all_snapshots(uri)
    orphans = find_index_orphans(store, earlier_snapshots)
    kept = frozenset[str]() if unfinished else orphans.unfinished
    return f"{index_orphans_text(store.uri, orphans)}{delete_listed(store, orphans.items, kept, delete)}"


def index_orphans_text(uri: str, orphans: IndexOrphans) -> str:
    """Returns every orphaned object, the sums by kind, and what to consider before deleting."""
    lines = list_orphans(uri, orphans.items)
    if orphans.unfinished:
        lines.append(
            f"{len(orphans.unfinished)} objects belong to complete partitions of an unfinished or replaced build; only "
            "--unfinished deletes them"
        )
    if orphans.foreign:
        lines.append(f"{orphans.foreign} objects with other names are left alone")
    return "\n".join(lines)
