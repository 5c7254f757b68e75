"""Builds a search index: plan -> encode what is missing on Ray Data -> candidate search -> publish.

Complete partitions are kept, so the same command resumes after a kill and extends the index of a feature set that has
grown. Equal inputs give equal bytes on machines of one kind.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch

from infra.canonical_json import canonical_json
from infra.cluster import ClusterConfig, connect
from infra.cluster_resources import ResourceRequest, may_scale, wait_for_resources
from infra.errors import UserError
from infra.storage.base import Store, put_if_changed
from infra.storage.conditional_writes import require_conditional_writes
from infra.storage.open import open_store, require_folder
from pipelines.extraction.worker_errors import iter_rows, keep_error_message
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import INDEX, snapshot_name
from pipelines.models.load import LoadedModel, require_fingerprint
from pipelines.search.candidate_search import faiss
from pipelines.search.candidate_search_build import build_candidate_search
from pipelines.search.config import IndexConfig
from pipelines.search.index_format import (
    CandidateSearch,
    Gallery,
    IndexDocument,
    IndexedFeatures,
    IndexedModel,
    InvalidSearchIndexError,
    parse_document,
)
from pipelines.search.index_plan import PartitionTask, plan_partitions, require_one_gallery
from pipelines.search.layout import FORMAT, GALLERIES, file_name, partition_receipt_name
from pipelines.search.partition import Partition, read_partition_receipt
from pipelines.search.partition_reader import REQUESTS
from pipelines.search.partition_writer import write_partition


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

    def __init__(self, model: Any, stores: Sequence[Store], output: Store, device: str, threads: int) -> None:
        """`model` is a reference to the network, `stores` are those of the feature sets."""
        import ray

        torch.set_num_threads(threads)
        self._shan = ray.get(model).eval().to(device)
        self._stores, self._output = stores, output

    @keep_error_message
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Maps the row of a task to that of the receipt."""
        task = PartitionTask.from_row(row)
        partition = write_partition(self._output, task, self._stores[task.feature_set], self._shan)
        return {"receipt": partition.to_json()}


def build_index(
    model: LoadedModel,
    feature_sets: Sequence[FeatureSet],
    root: str,
    config: IndexConfig,
    cluster: ClusterConfig,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> IndexBuild:
    """Completes the index of feature sets by a model, below the folder or prefix `root`.

    `progress` is called with the numbers of items that are encoded and planned. Ray is joined or started only if
    something is missing. Raises UserError if the feature sets are not those of the model or cannot form one gallery.
    """
    require_folder(root, "--output")
    require_one_gallery(feature_sets)
    for features in feature_sets:
        require_fingerprint(model, features)
    faiss()
    store = open_store(f"{root.rstrip('/')}/{index_name(model, feature_sets, config.photos_per_partition)}")
    tasks = [
        task for name in config.wanted for task in plan_partitions(feature_sets, name, config.photos_per_partition)
    ]
    done = find_complete(store, tasks)
    missing = [task for task in tasks if task.name not in done]
    total = sum(shard.written for task in tasks for shard in task.shards)
    progress(total - sum(shard.written for task in missing for shard in task.shards), total)
    if missing:
        require_conditional_writes(store)
        start_actors(config, cluster, len(missing))
        photos = {task.name: sum(shard.written for shard in task.shards) for task in missing}
        for partition in _encode(missing, model, feature_sets, store, config):
            done[partition.name] = partition
            progress(total - sum(photos[name] for name in photos.keys() - done.keys()), total)
    partitions = [done[task.name] for task in tasks]
    galleries = _galleries(store, partitions, config, cluster)
    if not galleries:
        raise UserError(f"the feature sets have no {config.galleries}, so there is nothing to index; give other ones")
    document = IndexDocument.build(_indexed_model(model), map(_indexed_features, feature_sets), galleries)
    for name in (snapshot_name(document.index), INDEX):
        put_if_changed(store, name, document.to_json())
    return IndexBuild(store, document, len(missing))


def index_name(model: LoadedModel, feature_sets: Sequence[FeatureSet], photos_per_partition: int) -> str:
    """Returns the folder of an index, `<data sets>-<12 hex>`.

    The hex digits hash the format, the model, the names of the data sets and the partition size. Another version of a
    model has an index beside that of the first; a feature set that has grown extends its index.
    """
    datasets = sorted(features.dataset for features in feature_sets)
    content = canonical_json({"identity": [FORMAT, model.digest, model.fingerprint, datasets, photos_per_partition]})
    shown = re.sub(r"[^\w.-]+", "-", "-".join(datasets))[:80]
    return f"{shown}-{sha256(content).hexdigest()[:12]}"


def find_complete(store: Store, tasks: Sequence[PartitionTask]) -> dict[str, Partition]:
    """Returns the complete partitions: those with a valid receipt whose files have their sizes."""
    listed = {name: info.size for name, info in store.scan()}
    with ThreadPoolExecutor(REQUESTS) as pool:
        names = [task.name for task in tasks if partition_receipt_name(task.name) in listed]
        receipts = list(pool.map(lambda name: read_partition_receipt(store, name), names))
    return {
        found.name: found
        for found in receipts
        if found is not None
        and all(listed.get(file_name(found.name, file)) == stored.size for file, stored in found.files.items())
    }


def start_actors(config: IndexConfig, cluster: ClusterConfig, tasks: int) -> None:
    """Joins or starts Ray, and waits until it has room for the actors; with an autoscaler, for one of them."""
    connect(cluster)
    bundle, setting = {"CPU": config.actor_cpus}, f"index.actor_cpus is {config.actor_cpus:g}"
    if config.actor_gpus:
        bundle["GPU"] = config.actor_gpus
        setting += f" and index.actor_gpus is {config.actor_gpus:g}"
    fix = "lower them or index.actors, or use a larger cluster (cluster.address)"
    count = 1 if may_scale() else min(config.actors, tasks)
    wait_for_resources(cluster, ResourceRequest([bundle] * count, setting, fix))


def _encode(
    tasks: Sequence[PartitionTask],
    model: LoadedModel,
    feature_sets: Sequence[FeatureSet],
    store: Store,
    config: IndexConfig,
) -> Iterator[Partition]:
    """Encodes partitions on actors and yields them as they are committed."""
    import ray
    import ray.data

    count = min(config.actors, len(tasks))
    threads = max(1, round(config.actor_cpus))
    stores = [features.store for features in feature_sets]
    dataset = ray.data.from_items([task.to_row() for task in tasks], override_num_blocks=len(tasks)).map(
        EncodePartition,
        fn_constructor_args=(ray.put(model.shan.cpu()), stores, store, config.device, threads),
        compute=ray.data.ActorPoolStrategy(size=count),
        num_cpus=config.actor_cpus,
        num_gpus=config.actor_gpus,
    )
    dataset.context.target_max_block_size = 1  # bytes: every receipt is passed on as soon as it is written
    for row in iter_rows(dataset):
        yield Partition.from_json(row["receipt"])


def _galleries(
    store: Store, partitions: Sequence[Partition], config: IndexConfig, cluster: ClusterConfig
) -> dict[str, Gallery]:
    """Returns the galleries that have items, with their candidate searches."""
    try:
        current = parse_document(store.read(INDEX), f"{store.uri}/{INDEX}").galleries
    except (FileNotFoundError, InvalidSearchIndexError):  # an index that is not valid is replaced
        current = {}
    galleries = {}
    for name in GALLERIES:
        own = tuple(partition for partition in partitions if partition.gallery == name)
        if any(partition.items for partition in own):
            search = current[name].first_stage if name in current else CandidateSearch()
            galleries[name] = Gallery(own, build_candidate_search(store, name, own, config, cluster, search))
    return galleries


def _indexed_model(model: LoadedModel) -> IndexedModel:
    return IndexedModel(model.uri, model.digest, model.fingerprint)


def _indexed_features(features: FeatureSet) -> IndexedFeatures:
    return IndexedFeatures(features.pinned_uri, features.dataset, features.index.feature_set, features.index.photo_root)
