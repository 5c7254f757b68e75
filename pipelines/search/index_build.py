"""Builds a search index: plan -> encode what is missing on Ray Data -> candidate search -> publish.

Complete partitions are kept, so the same command resumes after a kill and extends the index of a feature set that has
grown. Equal inputs give equal bytes on machines of one kind.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from infra.cluster import ClusterConfig, connect
from infra.cluster_resources import ResourceRequest, Wait, may_scale, wait_for_resources
from infra.errors import UserError
from infra.failures import recorded_failure
from infra.log import event
from infra.storage.base import Store, put_if_changed
from infra.storage.conditional_writes import require_conditional_writes
from pipelines.extraction.worker_errors import iter_rows, keep_error_message
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import snapshot_name
from pipelines.models.device import choose_device
from pipelines.models.load import LoadedModel
from pipelines.search.build_metrics import BuildMetrics
from pipelines.search.candidate_search_build import build_candidate_search
from pipelines.search.config import IndexConfig
from pipelines.search.index_format import (
    CandidateSearch,
    Gallery,
    IndexDocument,
    IndexedFeatures,
    IndexedModel,
    find_index_document,
)
from pipelines.search.index_plan import IndexPlan, PartitionTask, plan_index
from pipelines.search.layout import GALLERIES
from pipelines.search.partition import Partition
from pipelines.search.partition_writer import write_partition

RETRIES = 3
"""Processes that may be lost while they encode a partition, beside the first. Ray's default is to retry endlessly."""


@dataclass(frozen=True)
class IndexBuild:
    """A finished index, and this run's part in it."""

    store: Store
    document: IndexDocument
    partitions_written: int

    @property
    def uri(self) -> str:
        """`<uri>@<12 hex>`, which opens this index even after it was extended."""
        return f"{self.store.uri}@{self.document.index[:12]}"


class EncodePartition:
    """A Ray Data operator that encodes a partition and maps its task to its receipt."""

    def __init__(self, model: Any, stores: Sequence[Store], output: Store, config: IndexConfig) -> None:
        """`model` is a reference to the network, `stores` are those of the feature sets."""
        import ray

        torch.set_num_threads(max(1, round(config.actor_cpus)))
        self._shan = ray.get(model).eval()
        self._stores, self._output, self._config = stores, output, config

    @keep_error_message
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Maps the row of a task to that of the receipt and the seconds that it took."""
        start = time.monotonic()
        task = PartitionTask.from_row(row)
        shan = self._shan.to(choose_device(self._config.device, "the device of an actor (index.actor_gpus)"))
        partition = write_partition(self._output, task, self._stores[task.feature_set], shan, self._config.vector_type)
        return {"receipt": partition.to_json(), "seconds": time.monotonic() - start}


def build_index(
    model: LoadedModel,
    feature_sets: Sequence[FeatureSet],
    config: IndexConfig,
    cluster: ClusterConfig,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> IndexBuild:
    """Completes the index of feature sets by a model, below `config.output`.

    `progress` is called with the numbers of items that are encoded and planned. Ray is joined or started only if
    something is missing. Raises UserError as `plan_index`, and if another job has published an index meanwhile.
    """
    plan = plan_index(model, feature_sets, config)
    if plan.missing:
        require_conditional_writes(plan.store)
        connect(cluster)
    with BuildMetrics(plan) as metrics:
        if plan.missing:
            wait_for_actors(config, cluster, len(plan.missing))
        with recorded_failure(plan.store):
            return _complete(plan, model, feature_sets, config, cluster, progress, metrics)


def _complete(
    plan: IndexPlan,
    model: LoadedModel,
    feature_sets: Sequence[FeatureSet],
    config: IndexConfig,
    cluster: ClusterConfig,
    progress: Callable[[int, int], object],
    metrics: BuildMetrics,
) -> IndexBuild:
    """Writes the missing partitions and publishes the index."""
    store, tasks, done, missing = plan.store, plan.tasks, dict(plan.complete), plan.missing
    progress(metrics.accounted, metrics.planned)
    if missing:
        for partition, seconds in _encode(missing, model, feature_sets, store, config, cluster):
            done[partition.name] = partition
            metrics.add(partition, seconds)
            text = f"{partition.name}: {partition.items} items written"
            event("partition_written", text, partition=partition.name, items=partition.items)
            progress(metrics.accounted, metrics.planned)
    partitions = [done[task.name] for task in tasks]
    galleries = _galleries(store, partitions, config, cluster)
    if galleries.keys().isdisjoint(config.wanted):
        raise UserError(f"the feature sets have no {config.galleries}, so there is nothing to index; give other ones")
    document = IndexDocument.build(_indexed_model(model), map(_indexed_features, feature_sets), galleries)
    put_if_changed(store, snapshot_name(document.index), document.to_json())
    plan.published.write(document.to_json())
    return IndexBuild(store, document, len(missing))


def wait_for_actors(config: IndexConfig, cluster: ClusterConfig, tasks: int) -> None:
    """Waits until Ray has room for the actors; with an autoscaler, for one of them."""
    wait_for_resources(cluster, actors_request(config, 1 if may_scale() else min(config.num_actors, tasks)))


def actors_request(config: IndexConfig, count: int) -> ResourceRequest:
    """Returns the resources of actors that encode partitions."""
    bundle, setting = {"CPU": config.actor_cpus}, f"index.actor_cpus is {config.actor_cpus:g}"
    if config.actor_gpus:
        bundle["GPU"] = config.actor_gpus
        setting += f" and index.actor_gpus is {config.actor_gpus:g}"
    fix = "lower them or index.num_actors, or use a larger cluster (cluster.address)"
    return ResourceRequest([bundle] * count, setting, fix)


def _encode(
    tasks: Sequence[PartitionTask],
    model: LoadedModel,
    feature_sets: Sequence[FeatureSet],
    store: Store,
    config: IndexConfig,
    cluster: ClusterConfig,
) -> Iterator[tuple[Partition, float]]:
    """Encodes partitions on actors and yields them, with the seconds that they took, as they are committed."""
    import ray
    import ray.data

    count = min(config.num_actors, len(tasks))
    stores = [features.store for features in feature_sets]
    dataset = ray.data.from_items([task.to_row() for task in tasks], override_num_blocks=len(tasks)).map(
        EncodePartition,
        fn_constructor_args=(ray.put(model.shan.cpu()), stores, store, config),
        compute=ray.data.ActorPoolStrategy(size=count),
        num_cpus=config.actor_cpus,
        num_gpus=config.actor_gpus,
        max_task_retries=RETRIES,
    )
    dataset.context.target_max_block_size = 1  # bytes: every receipt is passed on as soon as it is written
    for row in iter_rows(dataset, Wait(cluster, actors_request(config, 1))):
        yield Partition.from_json(row["receipt"]), row["seconds"]


def _galleries(
    store: Store, partitions: Sequence[Partition], config: IndexConfig, cluster: ClusterConfig
) -> dict[str, Gallery]:
    """Returns the galleries that have items, with their candidate searches."""
    document = find_index_document(store)  # an index that is not valid is replaced
    current = {} if document is None else document.galleries
    galleries = {}
    for name in GALLERIES:
        own = tuple(partition for partition in partitions if partition.gallery == name)
        if any(partition.items for partition in own):
            search = current[name].first_stage if name in current else CandidateSearch()
            galleries[name] = Gallery(own, build_candidate_search(store, name, own, config, cluster, search))
    return galleries


def _indexed_model(model: LoadedModel) -> IndexedModel:
    return IndexedModel(model.uri, model.digest, model.fingerprint, model.shan.alignment.pools_means)


def _indexed_features(features: FeatureSet) -> IndexedFeatures:
    return IndexedFeatures(features.pinned_uri, features.dataset, features.index.feature_set, features.index.photo_root)
