"""The extraction of a feature set: plan -> start -> work -> publish, each step once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.canonical_json import canonical_json
from infra.cluster import ClusterConfig, connect
from infra.cluster_resources import ResourceRequest, Wait, may_scale, wait_for_resources
from infra.failures import recorded_failure
from infra.log import event, log
from infra.progress import ProgressBar
from infra.storage.base import Store
from infra.storage.conditional_writes import require_conditional_writes
from infra.storage.open import open_store, require_folder
from infra.storage.replacement import Replacement
from pipelines.datasets.manifest import Manifest, Photos
from pipelines.detectors import registry
from pipelines.detectors.check import check_detector
from pipelines.detectors.contract import DetectorSpec
from pipelines.extraction.config import CUT_CPUS, EARLIER_PHOTOS_PER_SHARD, TASK_CPUS, ExtractConfig
from pipelines.extraction.hash_photos import hash_photos
from pipelines.extraction.join import delete_parts
from pipelines.extraction.ledger import Ledger
from pipelines.extraction.missing_photos import check_missing_photos
from pipelines.extraction.progress_metrics import ProgressMetrics
from pipelines.extraction.ray_graph import Committed, run_graph
from pipelines.extraction.reconcile import FeatureSetPlan, reconcile
from pipelines.features.account import Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription
from pipelines.features.layout import INDEX, REPORT, feature_set_name, shard_of_part
from pipelines.features.manifests import StoredManifest, write_manifest
from pipelines.features.ownership import require_dataset
from pipelines.features.publish import publish
from pipelines.features.rehashed import add_rehashed
from pipelines.features.speed_report import speed_table
from pipelines.features.text_report import published_text


@dataclass(frozen=True)
class ExtractionPlan:
    """The resolved inputs of an extraction, and its work."""

    manifest: Manifest
    store: Store
    """Store of the feature set."""
    published: Replacement
    """Its index, as this extraction found it."""
    spec: DetectorSpec
    fingerprint: str
    """Fingerprint of the detector."""
    feature_set: FeatureSetPlan


@dataclass(frozen=True)
class Extraction:
    """A finished extraction, and this run's part in it."""

    feature_set: FeatureSet
    written: tuple[Account, ...]
    """Accounts of the shards that were missing before."""
    photos_detected: int
    """Photos that went through the detector and are in the shards or their parts."""
    plan: FeatureSetPlan
    times: Mapping[str, Any]
    """Speed of the phases (`PhaseTimes.report`); empty if no photo was detected."""

    @property
    def shards_reused(self) -> int:
        """Shards that were complete before."""
        return len(self.plan.complete)


def extract(
    manifest: Manifest,
    config: ExtractConfig,
    cluster: ClusterConfig,
    progress: Callable[[int], object],
    before_writing: Callable[[], None] = lambda: None,
) -> Extraction:
    """Completes the feature set of a manifest: complete shards are kept, the others are extracted.

    `progress` is called with the number of photos of every complete part. `before_writing` is called if a shard is
    missing, and raises for what must be true of later work. Ray is joined or started only if a shard is
    missing or photos must be hashed. Raises UserError as soon as more than `config.max_rejected` of the photos are
    rejected.
    """
    plan = plan_extraction(manifest, config, cluster)
    if plan.feature_set.missing:
        require_conditional_writes(plan.store)
        before_writing()
        connect(cluster)
    ledger = Ledger(plan.feature_set)
    with _metrics(plan, config, ledger) as metrics:  # they show a wait for resources, too
        if plan.feature_set.missing:
            parts = sum(task.part_count for task in plan.feature_set.missing)
            start_detectors(config, cluster, plan.spec, min(config.min_detector_actors, parts))
        with recorded_failure(plan.store):
            _write_shards(plan, config, Wait(cluster, _request(config, 1)), ledger, progress, metrics)
            feature_set = _publish(plan, config, ledger)
    written = tuple(ledger.accounts[task.name] for task in plan.feature_set.missing)
    if times := ledger.times.report():
        plan.store.replace(REPORT, canonical_json(times))
    return Extraction(feature_set, written, ledger.detected, plan.feature_set, times)


def extract_with_progress_bar(
    manifest: Manifest,
    config: ExtractConfig,
    cluster: ClusterConfig,
    before_writing: Callable[[], None] = lambda: None,
) -> Extraction:
    """Runs `extract` and shows a progress bar in photos."""
    with ProgressBar(total=manifest.table.num_rows, desc="extract", unit="photo") as bar:
        return extract(manifest, config, cluster, bar.update, before_writing)


def plan_extraction(manifest: Manifest, config: ExtractConfig, cluster: ClusterConfig) -> ExtractionPlan:
    """Validates the config and compares the manifest with the store. Writes nothing.

    Ray is joined or started only if photos must be hashed to decide whether they changed.
    """
    check_missing_photos(manifest, config.max_rejected)
    require_folder(config.output, "extract.output")
    spec = config.spec()
    fingerprint = registry.fingerprint(config.detector, spec)
    store, photos_per_shard = _find_store(manifest, config, fingerprint, spec)
    published = Replacement.of(store, INDEX)
    require_dataset(store, manifest)

    def hash_on_cluster(photos: Photos) -> dict[str, str]:
        log.info("reading %d photos that may have changed or could not be read", len(photos))
        return hash_photos(photos, manifest, cluster)

    feature_set = reconcile(
        manifest, photos_per_shard, config.photos_per_part, store, hash_on_cluster, config.retry_downloads
    )
    return ExtractionPlan(manifest, store, published, spec, fingerprint, feature_set)


def _find_store(manifest: Manifest, config: ExtractConfig, fingerprint: str, spec: DetectorSpec) -> tuple[Store, int]:
    """Returns the store of the feature set, and the photos per shard.

    A feature set that was written before `shard_mb` is continued, unless there is one of the new size.
    """

    def of_size(photos_per_shard: int) -> Store:
        return open_store(
            f"{config.output.rstrip('/')}/{feature_set_name(manifest.name, fingerprint, photos_per_shard)}"
        )

    size = config.shard_size(spec)
    if size == config.photos_per_shard or _has_index(of_size(size)):
        return of_size(size), size
    earlier = of_size(EARLIER_PHOTOS_PER_SHARD)
    if not _has_index(earlier):
        return of_size(size), size
    log.info(
        f"{earlier.uri} was extracted with {EARLIER_PHOTOS_PER_SHARD} photos per shard and is continued so; "
        f"--extract.photos_per_shard {size} extracts it again with shards of about {config.shard_mb:g} MB"
    )
    return earlier, EARLIER_PHOTOS_PER_SHARD


def _has_index(store: Store) -> bool:
    try:
        return bool(store.read(INDEX, 0, 1))  # a bucket explains a refused GET, but not a HEAD
    except (FileNotFoundError, NotADirectoryError):
        return False


def start_detectors(config: ExtractConfig, cluster: ClusterConfig, spec: DetectorSpec, count: int) -> None:
    """Joins or starts Ray, waits until it has room for `count` detectors, and checks that the detector runs there.

    With an autoscaler it waits for one detector only: extraction starts while further nodes are added. Raises UserError
    if the detector does not run, or if the cluster can never run that many.
    """
    connect(cluster)
    wait_for_resources(cluster, _request(config, 1 if may_scale() else count))
    if config.detector_settings or config.detector_gpus or registry.is_plugin(config.detector):
        check_detector(config.detector, spec, config.device, config.detector_cpus, config.detector_gpus)


def _request(config: ExtractConfig, count: int) -> ResourceRequest:
    """Returns the resources of `count` detectors, and of a task that fetches and one that commits."""
    detector, settings = {"CPU": config.detector_cpus}, f"extract.detector_cpus is {config.detector_cpus:g}"
    if config.detector_gpus:
        detector["GPU"] = config.detector_gpus
        settings += f" and extract.detector_gpus is {config.detector_gpus:g}"
    fix = "lower them or extract.min_detector_actors, or use a larger cluster (cluster.address)"
    return ResourceRequest([detector] * count + [{"CPU": TASK_CPUS}] * 2 + [{"CPU": CUT_CPUS}], settings, fix)


def extraction_summary(extraction: Extraction) -> str:
    """Returns the accounting of the feature set and of this run, a few lines of text."""
    done = f"{len(extraction.written)} written now, {extraction.shards_reused} reused"
    text = published_text(extraction.feature_set, f"({done}); {extraction.photos_detected} detected now")
    if extraction.plan.not_retried:
        text += (
            f"\n  {extraction.plan.not_retried} photos that an earlier run could not download were not tried again; "
            "--extract.retry_downloads true does"
        )
    if extraction.times:
        text += f"\n\n{speed_table(extraction.times).markdown()}\n"
    return text


def _metrics(plan: ExtractionPlan, config: ExtractConfig, ledger: Ledger) -> ProgressMetrics:
    name, photos = plan.store.uri.rpartition("/")[2], plan.feature_set.photo_count
    return ProgressMetrics(name, photos, config.max_rejected, ledger.photo_count(), ledger.rejected)


def _write_shards(
    plan: ExtractionPlan,
    config: ExtractConfig,
    wait: Wait,
    ledger: Ledger,
    progress: Callable[[int], object],
    metrics: ProgressMetrics,
) -> None:
    """Writes the manifest and the missing shards, and adds them to the ledger."""
    work = plan.feature_set
    text = f"{work.photo_count} photos: {len(work.complete)} shards are complete, {len(work.missing)} are missing"
    event("extraction_planned", text, photos=work.photo_count, complete=len(work.complete), missing=len(work.missing))
    write_manifest(plan.store, plan.manifest, exact=bool(work.missing))
    progress(ledger.photo_count())
    ledger.check_max_rejected(plan.store, work.photo_count, config.max_rejected)
    if work.missing:
        stored = StoredManifest.find(plan.store, plan.manifest.digest())
        for done in run_graph(work.missing, plan.manifest.root, plan.store, stored, plan.spec, config, wait):
            _log_committed(done)
            if added := ledger.add(done):
                progress(added)
                metrics.add(done.receipt)
                ledger.check_max_rejected(plan.store, work.photo_count, config.max_rejected)
    if work.missing or work.has_parts:
        delete_parts(plan.store, set(work.shards))


def _log_committed(done: Committed) -> None:
    """Logs a shard or a part, and each rejected photo of it; those of a joined shard were logged with its parts."""
    receipt = done.receipt
    name, rejected = receipt.shard, receipt.rejected if done.times else ()
    text = f"{name}: {len(receipt.written)} photos written, {len(receipt.rejected)} rejected"
    kind = "part_written" if shard_of_part(name) else "shard_written"
    event(kind, text, shard=name, written=len(receipt.written), rejected=len(receipt.rejected))
    for each in rejected:
        event("photo_rejected", f"{each.key}: {each.reason}", shard=name, key=each.key, reason=each.reason)


def _publish(plan: ExtractionPlan, config: ExtractConfig, ledger: Ledger) -> FeatureSet:
    spec = plan.spec
    files = {name: getattr(spec, name) for name in getattr(spec, "files", ()) if getattr(spec, name)}
    detector = DetectorDescription(
        config.detector,
        {**config.detector_settings, **files},  # absolute, and those of a hub pinned to a commit
        spec.feature_dim,
        spec.region_range,
        spec.class_names,
        getattr(spec, "attribute_names", {}),
    )
    add_rehashed(plan.store, plan.feature_set.rehashed)
    accounts = [ledger.accounts[name] for name in plan.feature_set.shards]
    return publish(plan.published, plan.manifest, plan.fingerprint, detector, accounts)
