"""The Ray Data graph of an extraction: shards -> cut into parts -> fetch and decode -> detect -> commit; then join.

One row is one part through every operator but the first, and one block. Ray Data never splits a row, so none can
split, merge or reorder a part. Each operator scales on its own, its memory is that of the parts in progress, and photos
never reach the driver: only receipts do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from infra.cluster_resources import Wait
from infra.storage.base import Store
from pipelines.detectors.contract import DetectorSpec
from pipelines.extraction.config import CUT_CPUS, TASK_CPUS, ExtractConfig
from pipelines.extraction.cut import Cut, task_row
from pipelines.extraction.detect import Detect
from pipelines.extraction.join import Joins
from pipelines.extraction.operators import Commit, Fetch
from pipelines.extraction.reconcile import ShardTask
from pipelines.extraction.worker_errors import iter_rows
from pipelines.features.layout import shard_of_part
from pipelines.features.manifests import StoredManifest
from pipelines.features.receipt import Receipt


@dataclass(frozen=True)
class Committed:
    """A receipt that was written: of a part, or of a complete shard."""

    shard: str
    """Planned name of the shard."""
    receipt: Receipt
    detected: int = 0
    """Photos that went through the detector for it."""
    times: str = ""
    """Times of the part (`phase_times`); empty for a shard that was joined."""


def run_graph(
    tasks: Sequence[ShardTask],
    root: str,
    store: Store,
    manifest: StoredManifest,
    spec: DetectorSpec,
    config: ExtractConfig,
    wait: Wait,
) -> Iterator[Committed]:
    """Writes shards and yields the receipts of parts and shards, in the order in which they are committed.

    Shards that need no detection are written first, without starting a detector. Raises UserError if a store, a disk
    or the detector fails, or if the nodes that are left cannot run what `wait` requests.
    """
    import ray.data

    joins = Joins(store, tasks)
    detect = [task for task in tasks if len(task.to_detect)]
    names = {task.name for task in detect}
    rewrite = [task for task in tasks if task.name not in names and len(task.done) < task.part_count]
    if rewrite:
        yield from _commits(
            _parts(rewrite, store, manifest, config).map(Commit(store), num_cpus=TASK_CPUS), joins, wait
        )
    if detect:
        most = sum(task.part_count - len(task.done) for task in detect)
        actors = ray.data.ActorPoolStrategy(
            min_size=min(config.min_detector_actors, most), max_size=min(config.max_detector_actors, most)
        )
        fetched = _parts(detect, store, manifest, config).map(Fetch(root, store), num_cpus=TASK_CPUS)
        detected = fetched.map(
            Detect,
            fn_constructor_args=(spec, config.device, config.detector_batch_size, store),
            compute=actors,
            num_cpus=config.detector_cpus,
            num_gpus=config.detector_gpus,
        )
        yield from _commits(detected.map(Commit(store), num_cpus=TASK_CPUS), joins, wait)
    for shard, receipt in joins.finished(wait=True):
        yield Committed(shard, receipt)


def _parts(tasks: Sequence[ShardTask], store: Store, manifest: StoredManifest, config: ExtractConfig) -> Any:
    import ray.data

    shards = ray.data.from_items([task_row(task) for task in tasks], override_num_blocks=len(tasks))
    return shards.flat_map(Cut(store, manifest, config.photos_per_part), num_cpus=CUT_CPUS)


def _commits(dataset: Any, joins: Joins, wait: Wait) -> Iterator[Committed]:
    dataset.context.target_max_block_size = 1  # bytes: every row becomes a block, as soon as it is yielded
    for row in iter_rows(dataset, wait):
        receipt = Receipt.from_json(row["receipt"])
        yield Committed(row["shard"], receipt, len(receipt.written) - row["reused"], row["times"])
        if shard_of_part(receipt.shard):
            joins.add(row["shard"], receipt.shard)
        for shard, joined in joins.finished(wait=False):
            yield Committed(shard, joined)
