"""Bringing the feature set of a manifest to completion."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from infra.cluster import ClusterConfig, check_gpus, connect
from infra.errors import UserError
from infra.storage.base import Store
from infra.storage.open import open_store, require_durable_path
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.detectors import registry
from pipelines.detectors.check import check_detector
from pipelines.detectors.contract import DetectorSpec
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.ray_graph import hash_photos, run_graph
from pipelines.extraction.reconcile import FeatureSetPlan, plan_feature_set, write_rehashed
from pipelines.extraction.shard_plan import feature_set_name
from pipelines.features.feature_set import FeatureSet, read_index, write_index, write_manifest
from pipelines.features.quarantine import check_max_rejected, write_quarantine_report
from pipelines.features.shards import Receipt
from pipelines.features.text_report import written_text


@dataclass(frozen=True)
class Extraction:
    """A finished extraction and what of it was done now."""

    feature_set: FeatureSet
    written: tuple[Receipt, ...]
    """Receipts of the shards that were missing."""
    plan: FeatureSetPlan

    @property
    def shards_reused(self) -> int:
        """Shards that were there already."""
        return len(self.plan.receipts)

    @property
    def photos_detected(self) -> int:
        """Photos in those shards that went through the detector."""
        return sum(len(receipt.written) for receipt in self.written) - sum(len(s.reuse) for s in self.plan.missing)


@dataclass(frozen=True)
class Prepared:
    """What an extraction has to do, before it does anything."""

    store: Store
    """Of the feature set."""
    spec: DetectorSpec
    fingerprint: str
    plan: FeatureSetPlan


def prepare(manifest: Manifest, config: ExtractConfig, cluster: ClusterConfig) -> Prepared:
    """Plans, and writes nothing. Ray is joined or started only if photos must be read to see whether they changed."""
    spec = config.spec()
    fingerprint = registry.fingerprint(config.detector, spec)
    name = feature_set_name(manifest.name, fingerprint, config.photos_per_shard)
    require_durable_path(config.output, "extract.output")
    store = open_store(f"{config.output.rstrip('/')}/{name}")

    def hashed(photos: list[Photo]) -> dict[str, str]:
        connect(cluster)
        return hash_photos(photos, manifest)

    last = _last_shards(store)
    return Prepared(store, spec, fingerprint, plan_feature_set(manifest, config.photos_per_shard, store, last, hashed))


def start(config: ExtractConfig, cluster: ClusterConfig, spec: DetectorSpec) -> None:
    """Joins or starts Ray, and makes sure that the detector will run there. UserError if it will not."""
    connect(cluster)
    check_gpus(cluster, config.detector_gpus)
    if config.detector_settings or registry.is_plugin(config.detector):
        check_detector(config.detector, spec, config.device, config.detector_cpus, config.detector_gpus)


def extract(
    manifest: Manifest, config: ExtractConfig, cluster: ClusterConfig, progress: Callable[[int], object]
) -> Extraction:
    """Brings the feature set of a manifest to completion: shards that exist are kept, the rest is extracted.

    `progress` is called with the number of photos of each shard that is complete. Ray is joined or started only if
    something is missing. UserError if more than `config.max_rejected` of the photos are rejected, as soon as they are.
    """
    prepared = prepare(manifest, config, cluster)
    store, spec, plan = prepared.store, prepared.spec, prepared.plan
    if plan.missing:
        start(config, cluster, spec)
    write_manifest(store, manifest)
    receipts = dict(plan.receipts)
    progress(sum(len(receipt.planned) for receipt in receipts.values()))
    check_max_rejected(store, receipts.values(), plan.photo_count, config.max_rejected)
    if plan.missing:
        for name, receipt in run_graph(plan.missing, manifest.root, store, spec, config):
            receipts[name] = receipt
            progress(len(receipt.planned))
            if receipt.rejected:
                check_max_rejected(store, receipts.values(), plan.photo_count, config.max_rejected)
    in_order = [receipts[shard.name] for shard in plan.shards]
    rejected = [row for receipt in in_order for row in receipt.rejected]
    if len(rejected) == plan.photo_count:
        first = rejected[0]
        raise UserError(f"all {plan.photo_count} photos were rejected, first {first.source}: {first.reason}; mend them")
    write_quarantine_report(store, in_order)
    write_rehashed(store, plan)
    feature_set = write_index(store, manifest, prepared.fingerprint, _describe(spec, config), in_order)
    return Extraction(feature_set, tuple(receipts[shard.name] for shard in plan.missing), plan)


def _last_shards(store: Store) -> list[str]:
    """Of the last finished extraction; none if there is none."""
    try:
        index = read_index(store)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{store.uri}: its index.json is not one of ours ({error}); choose another output") from error
    return [row["name"] for row in index["shards"]]


def _describe(spec: DetectorSpec, config: ExtractConfig) -> dict[str, Any]:
    """What users of the feature set need to know of its detector."""
    return {
        "name": config.detector,
        "settings": config.detector_settings,
        "feature_dim": spec.feature_dim,
        "regions": list(spec.region_range),
        "class_names": {str(id_): name for id_, name in spec.class_names.items()},
        "attribute_names": {str(id_): name for id_, name in getattr(spec, "attribute_names", {}).items()},
    }


def run_extraction(manifest: Manifest, config: ExtractConfig, cluster: ClusterConfig) -> Extraction:
    """Extracts what is missing of a manifest's feature set, with a bar in photos."""
    with tqdm(total=manifest.table.num_rows, desc="extract", unit="photo") as bar:
        return extract(manifest, config, cluster, bar.update)


def report(extraction: Extraction) -> str:
    """What was done, in a few lines."""
    done = f"{len(extraction.written)} written now, {extraction.shards_reused} reused"
    return written_text(extraction.feature_set, f"({done}); {extraction.photos_detected} detected now")
