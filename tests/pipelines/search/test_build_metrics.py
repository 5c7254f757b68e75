"""Metrics of an index build, scraped while it waits for resources, runs, and has ended."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from infra.cluster import ClusterConfig
from infra.metrics import (
    INDEX_ACCOUNTED_PHOTOS,
    INDEX_BYTES,
    INDEX_ENCODE_SECONDS,
    INDEX_ITEMS,
    INDEX_PLAN_PHOTOS,
    INDEX_PLANNED_PHOTOS,
)
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel
from pipelines.search.index_build import build_index
from pipelines.search.index_plan import index_name
from tests.support.indexes import SMALL
from tests.support.processes import wait_until
from tests.support.scrape import Scraped


class Busy:
    """An actor of another job."""


@pytest.mark.long
def test_a_build_has_metrics_from_its_wait_to_its_end(
    ray_session: None, tmp_path: Path, indexed_features: FeatureSet, indexed_model: LoadedModel
):
    """Another job has all CPUs until the gauges of the wait are scraped; an alert needs them."""
    config = replace(SMALL, output=str(tmp_path))
    name = index_name(indexed_model, [indexed_features], config)
    other = ray.remote(Busy).options(num_cpus=4).remote()
    ray.get(other.__ray_ready__.remote())
    with Scraped() as scraped, ThreadPoolExecutor() as pool:
        scraped.settle()
        counters = (INDEX_PLANNED_PHOTOS, INDEX_ITEMS, INDEX_BYTES, INDEX_ENCODE_SECONDS)
        before = {metric: scraped.total(metric.exported) for metric in counters}
        try:
            running = pool.submit(build_index, indexed_model, [indexed_features], config, ClusterConfig())
            wait_until(lambda: scraped.count(INDEX_ACCOUNTED_PHOTOS.exported, index=name) == 1, 60)
            assert scraped.total(INDEX_ACCOUNTED_PHOTOS.exported, index=name) == 0
            wait_until(lambda: scraped.total(INDEX_PLAN_PHOTOS.exported, index=name) == 118, 60)
        finally:
            ray.kill(other)
        partitions = running.result().document.receipts().values()
        scraped.settle()
        grown = {metric: scraped.total(metric.exported) - before[metric] for metric in counters}
    assert grown[INDEX_PLANNED_PHOTOS] == 118
    assert grown[INDEX_ITEMS] == sum(partition.items for partition in partitions)
    assert grown[INDEX_BYTES] == sum(partition.size for partition in partitions)
    assert grown[INDEX_ENCODE_SECONDS] > 0
