"""Extraction on Ray Data: plan rows -> fetch and decode -> detect -> commit.

One row is one shard through every stage, so no stage can split, merge or reorder what belongs together, each stage
scales on its own, and photos never reach the driver: only counts do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.cluster import ClusterConfig, connect
from infra.errors import UserError
from infra.store import Store, open_store
from pipelines.detectors import registry
from pipelines.feature_set import FeatureSet, write_index, write_manifest
from pipelines.manifest import Manifest
from pipelines.plan import ShardPlan, plan_feature_set
from pipelines.shards import receipt_name
from pipelines.stages import Commit, Detect, Fetch, plan_row


@dataclass(frozen=True)
class ExtractConfig:
    """How photos become a feature set."""

    output: str = "build/features"
    """Root URI of the object store; each feature set is a folder below it."""
    detector: str = "embedded"
    """Name of the detector."""
    photos_per_shard: int = 32
    """Photos of one tar, and of one Ray Data block. About 160 KB a photo in the tar, about 1 MB while it is decoded."""
    photos_per_batch: int = 8
    """Photos that a detector takes at once."""
    detector_actors: int = 2
    """Detector processes, each with one logical CPU."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        for name in ("photos_per_shard", "photos_per_batch", "detector_actors"):
            if getattr(self, name) < 1:
                raise ValueError(f"extract.{name} is {getattr(self, name)}; it must be at least 1")
        open_store(self.output)
        registry.fingerprint(self.detector)


@dataclass(frozen=True)
class Extraction:
    """A finished extraction and how much of it was already there."""

    feature_set: FeatureSet
    shards_written: int
    shards_reused: int


def extract(
    manifest: Manifest, config: ExtractConfig, cluster: ClusterConfig, progress: Callable[[int], object]
) -> Extraction:
    """Brings the feature set of a manifest to completion: receipts that exist are kept, the rest is extracted.

    `progress` is called with the number of photos of each shard that is complete. Ray is joined or started only if
    something is missing.
    """
    plan = plan_feature_set(manifest, registry.fingerprint(config.detector), config.photos_per_shard)
    store = open_store(f"{config.output}/{plan.name}")
    write_manifest(store, manifest)
    present = store.names()
    missing = [shard for shard in plan.shards if receipt_name(shard.name) not in present]
    progress(plan.photo_count - sum(len(shard.photos) for shard in missing))
    if missing:
        connect(cluster)
        _run_graph(missing, Path(manifest.root), store, config, progress)
    detector = {
        "name": config.detector,
        "feature_dim": registry.feature_dim(config.detector),
        "class_names": registry.class_names(config.detector),
    }
    feature_set = write_index(store, plan, manifest, detector)
    if len(feature_set.rejected) == plan.photo_count:
        first = feature_set.rejected[0]
        raise UserError(f"all {plan.photo_count} photos were rejected, first {first.source}: {first.reason}; mend them")
    return Extraction(feature_set, len(missing), len(plan.shards) - len(missing))


def _run_graph(
    shards: list[ShardPlan], root: Path, store: Store, config: ExtractConfig, progress: Callable[[int], object]
) -> None:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the job shows one bar of its own, in photos
    rows = ray.data.from_items([plan_row(shard) for shard in shards], override_num_blocks=len(shards))
    done = (
        rows.map(Fetch(root), num_cpus=0.5)
        .map(
            Detect,
            fn_constructor_args=(config.detector, config.photos_per_batch),
            compute=ray.data.ActorPoolStrategy(size=min(config.detector_actors, len(shards))),
            num_cpus=1,
        )
        .map(Commit(store), num_cpus=0.5)
    )
    for row in done.iter_rows():
        progress(row["count"])
