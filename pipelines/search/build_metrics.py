"""Metrics of an index build (infra/metrics.py). Its driver records all of them, so a killed actor loses none."""

from infra.metrics import (
    INDEX_ACCOUNTED_PHOTOS,
    INDEX_BYTES,
    INDEX_ENCODE_SECONDS,
    INDEX_ITEMS,
    INDEX_PLAN_PHOTOS,
    INDEX_PLANNED_PHOTOS,
)
from pipelines.search.index_plan import IndexPlan, photos_of
from pipelines.search.partition import Partition


class BuildMetrics:
    """Records the progress of one build: a context around its work, whose gauges disappear when it ends."""

    def __init__(self, plan: IndexPlan) -> None:
        """Counts the photos of the plan."""
        self._index = plan.store.uri.rpartition("/")[2]
        self._missing = {task.name: photos_of([task]) for task in plan.missing}
        self.planned = photos_of(plan.tasks)

    @property
    def accounted(self) -> int:
        """Photos of complete partitions."""
        return self.planned - sum(self._missing.values())

    def __enter__(self) -> "BuildMetrics":
        INDEX_PLANNED_PHOTOS.add(self.planned - self.accounted)
        INDEX_PLAN_PHOTOS.set(self.planned, index=self._index)
        INDEX_ACCOUNTED_PHOTOS.set(self.accounted, index=self._index)
        return self

    def __exit__(self, *_: object) -> None:
        for metric in (INDEX_PLAN_PHOTOS, INDEX_ACCOUNTED_PHOTOS):
            metric.remove(index=self._index)

    def add(self, partition: Partition, seconds: float) -> None:
        """Adds a partition that was missing, and the time that an actor took to encode it."""
        del self._missing[partition.name]
        INDEX_ITEMS.add(partition.items, gallery=partition.gallery)
        INDEX_BYTES.add(partition.size)
        INDEX_ENCODE_SECONDS.add(seconds)
        INDEX_ACCOUNTED_PHOTOS.set(self.accounted, index=self._index)
