"""The Ray Data graph of an extraction: tasks -> fetch and decode -> detect -> commit.

One row is one shard through every stage. Ray Data never splits a row, so no stage can split, merge or reorder a shard.
Each stage scales on its own, and photos never reach the driver: only receipts do.
"""

from collections.abc import Iterator
from typing import Any

from infra.storage.base import Store
from pipelines.detectors.contract import DetectorSpec
from pipelines.extraction.config import TASK_CPUS, ExtractConfig
from pipelines.extraction.detect import Detect
from pipelines.extraction.reconcile import ShardTask
from pipelines.extraction.stages import Commit, Fetch, task_row
from pipelines.extraction.worker_errors import iter_rows
from pipelines.features.receipt import Receipt


def run_graph(
    tasks: list[ShardTask], root: str, store: Store, spec: DetectorSpec, config: ExtractConfig
) -> Iterator[tuple[str, Receipt]]:
    """Writes shards and yields the planned name and the receipt of each, in the order in which they are committed.

    Shards that need no detection are written first, without starting a detector. Raises UserError if a store, a disk
    or the detector fails.
    """
    import ray.data

    detect = [task for task in tasks if len(task.reuse) < len(task.photos)]
    rewrite = [task for task in tasks if len(task.reuse) == len(task.photos)]
    if rewrite:
        yield from _receipts(_rows(rewrite).map(Commit(store), num_cpus=TASK_CPUS))
    if detect:
        actors = ray.data.ActorPoolStrategy(
            min_size=min(config.detector_actors_min, len(detect)), max_size=min(config.detector_actors_max, len(detect))
        )
        fetched = _rows(detect).map(Fetch(root, store), num_cpus=TASK_CPUS)
        detected = fetched.map(
            Detect,
            fn_constructor_args=(spec, config.device, config.detector_batch_size, store),
            compute=actors,
            num_cpus=config.detector_cpus,
            num_gpus=config.detector_gpus,
        )
        yield from _receipts(detected.map(Commit(store), num_cpus=TASK_CPUS))


def _rows(tasks: list[ShardTask]) -> Any:
    import ray.data

    return ray.data.from_items([task_row(task) for task in tasks], override_num_blocks=len(tasks))


def _receipts(dataset: Any) -> Iterator[tuple[str, Receipt]]:
    for row in iter_rows(dataset):
        yield row["shard"], Receipt.from_json(row["receipt"])
