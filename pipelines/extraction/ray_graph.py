"""Extraction on Ray Data: plan rows -> fetch and decode -> detect -> commit.

One row is one shard through every stage, so no stage can split, merge or reorder what belongs together (Ray Data never
splits a row), each stage scales on its own, and photos never reach the driver: only receipts do.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.datasets.photo_sources import photo_uri, read_photo
from pipelines.detectors.contract import DetectorSpec
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.reconcile import ShardPlan
from pipelines.extraction.stages import Commit, Detect, Fetch, plan_row
from pipelines.extraction.worker_errors import told_in_one_line, whole_errors
from pipelines.features.shards import Receipt

TASK_CPUS = 0.5
"""Fetching and committing wait for disks and networks half of their time."""


def run_graph(
    shards: list[ShardPlan], root: str, store: Store, spec: DetectorSpec, config: ExtractConfig
) -> Iterator[tuple[str, Receipt]]:
    """Writes shards and yields the planned name and the receipt of each as they come.

    No detector is started for shards that need none. UserError where a store, a disk or the detector gave up.
    """
    import ray

    detect = [shard for shard in shards if len(shard.reuse) < len(shard.photos)]
    rewrite = [shard for shard in shards if len(shard.reuse) == len(shard.photos)]
    if rewrite:
        yield from _receipts(_rows(rewrite).map(Commit(store), num_cpus=TASK_CPUS))
    if detect:
        actors = ray.data.ActorPoolStrategy(
            min_size=min(config.detector_actors_min, len(detect)), max_size=min(config.detector_actors_max, len(detect))
        )
        fetched = _rows(detect).map(Fetch(root), num_cpus=TASK_CPUS)
        detected = fetched.map(
            Detect,
            fn_constructor_args=(spec, config.device, config.detector_batch_size),
            compute=actors,
            num_cpus=config.detector_cpus,
            num_gpus=config.detector_gpus,
        )
        yield from _receipts(detected.map(Commit(store), num_cpus=TASK_CPUS))


def hash_photos(photos: list[Photo], manifest: Manifest) -> dict[str, str]:
    """sha256 of photos as they are now, by key; '' where one cannot be read. Read by tasks all over the cluster."""
    import ray.data

    rows = [{"key": photo.key, "uri": photo_uri(manifest.root, photo.source)} for photo in photos]
    with told_in_one_line():
        hashed = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // 256)).map(_hash, num_cpus=TASK_CPUS)
        return {row["key"]: row["sha256"] for row in _quietly(hashed).iter_rows()}


@whole_errors
def _hash(row: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"key": row["key"], "sha256": sha256(read_photo(row["uri"])).hexdigest()}
    except PhotoError:
        return {"key": row["key"], "sha256": ""}


def _rows(shards: list[ShardPlan]) -> Any:
    import ray.data

    return ray.data.from_items([plan_row(shard) for shard in shards], override_num_blocks=len(shards))


def _receipts(dataset: Any) -> Iterator[tuple[str, Receipt]]:
    with told_in_one_line():
        for row in _quietly(dataset).iter_rows():
            yield row["shard"], Receipt.from_json(row["receipt"])


def _quietly(dataset: Any) -> Any:
    dataset.context.enable_progress_bars = False  # the job shows one bar of its own, in photos
    dataset.context.raise_original_map_exception = True  # so that an OSError of a worker is one here
    return dataset
