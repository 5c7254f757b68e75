"""Joins the parts of a shard as soon as all are complete, in Ray tasks beside the operators of the extraction."""

from collections.abc import Container, Iterator, Sequence
from functools import cache
from typing import Any

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.extraction.reconcile import ShardTask
from pipelines.extraction.worker_errors import as_user_errors, idle_notice, keep_error_message
from pipelines.features.layout import kind_of, part_number, receipt_name, renamed, tar_name
from pipelines.features.receipt import Receipt, read_receipt
from pipelines.features.shards import OtherPhotosError, join_shards

MAX_JOINS = 4
"""Most shards that are joined at once. Each holds one part in memory, and a shard in a temporary file for a bucket."""


class Joins:
    """Collects the complete parts of shards, and joins them."""

    def __init__(self, store: Store, tasks: Sequence[ShardTask]) -> None:
        self._store = store
        self._tasks = {task.name: task for task in tasks if task.part_count > 1}
        self._parts = {
            task.name: {number: account.shard.name for number, account in task.done.items()}
            for task in self._tasks.values()
        }
        self._ready = [name for name, task in self._tasks.items() if len(task.done) == task.part_count]
        self._running: dict[Any, str] = {}

    def add(self, shard: str, part: str) -> None:
        """Adds a complete part of a shard."""
        self._parts[shard][part_number(part)] = part
        if len(self._parts[shard]) == self._tasks[shard].part_count:
            self._ready.append(shard)

    def finished(self, wait: bool) -> Iterator[tuple[str, Receipt]]:
        """Starts joins, and yields the planned name and the receipt of joined shards; with `wait`, until none is left.

        Raises UserError if the store or the disk fails.
        """
        import ray

        while self._ready or self._running:
            while self._ready and len(self._running) < MAX_JOINS:
                shard = self._ready.pop(0)
                parts = [part for _, part in sorted(self._parts.pop(shard).items())]
                running = _join_task().remote(self._store, shard, self._tasks.pop(shard).plan_digest, parts)
                self._running[running] = shard
            with idle_notice():
                done, _ = ray.wait(list(self._running), num_returns=1, timeout=None if wait else 0)
            for reference in done:
                with as_user_errors():
                    yield self._running.pop(reference), Receipt.from_json(ray.get(reference))
            if not done:
                return


@cache
def _join_task() -> Any:
    import ray

    return ray.remote(num_cpus=0)(join_parts)  # it waits for the store, and must not wait for a detector's CPU


@keep_error_message
def join_parts(store: Store, shard: str, plan_digest: str, parts: Sequence[str]) -> bytes:
    """Writes a shard from its parts, deletes them, and returns the shard's receipt as JSON.

    If another job has done so already, its shard is taken. Raises UserError if parts are gone without a shard.
    """
    receipts = [read_receipt(store, part) for part in parts]
    try:
        receipt = None if None in receipts else _join(store, shard, plan_digest, [r for r in receipts if r])
    except FileNotFoundError:
        receipt = None
    if receipt is None:
        receipt = read_receipt(store, shard)
        if receipt is None or receipt.plan_digest != plan_digest or store.info(tar_name(shard)) is None:
            raise UserError(f"{store.uri}/{shard}: another job has deleted parts of it; run again")
    for part in parts:
        store.delete(receipt_name(part))  # before the tar, so that what is left after a crash does not count
        store.delete(tar_name(part))
    return receipt.to_json()


def delete_parts(store: Store, shards: Container[str]) -> None:
    """Deletes what is left of the parts of complete shards, such as by a job that was killed while it joined them."""
    for name in sorted(name for name, _ in store.scan() if ".part-" in name and kind_of(name)):
        if name.partition(".part-")[0] in shards:
            store.delete(name)


def _join(store: Store, shard: str, plan_digest: str, parts: Sequence[Receipt]) -> Receipt:
    """Writes the shard under its planned name, or, if other photos have it, under a name of the photos' bytes."""
    try:
        return join_shards(store, shard, parts, plan_digest)
    except OtherPhotosError:
        contents = {photo.key: photo.sha256 for part in parts for photo in part.planned}
        return join_shards(store, renamed(shard, plan_digest, contents), parts, plan_digest)
