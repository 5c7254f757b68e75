"""Builds the candidate search of a gallery: centroids and lists of `ivf`, on Ray. A `flat` one has nothing to build."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.canonical_json import canonical_json
from infra.cluster import ClusterConfig, connect
from infra.cluster_resources import ResourceRequest, result_of, results_of, wait_for_resources
from infra.storage.base import Store
from pipelines.extraction.worker_errors import as_user_errors
from pipelines.features.npy import HEADER_BYTES, save_npy
from pipelines.search.candidate_search import (
    IVF_FROM,
    assign,
    compute_centroids,
    faiss,
    list_count,
    probe_count,
    sample_rows,
)
from pipelines.search.config import IndexConfig
from pipelines.search.index_format import CandidateSearch
from pipelines.search.layout import centroids_name, file_name, lists_name
from pipelines.search.partition import Partition, StoredFile
from pipelines.search.partition_reader import read_matrix
from pipelines.search.partition_writer import put_file, stored_file


def build_candidate_search(
    store: Store,
    gallery: str,
    partitions: Sequence[Partition],
    config: IndexConfig,
    cluster: ClusterConfig,
    current: CandidateSearch,
) -> CandidateSearch:
    """Returns the candidate search of a gallery's partitions, after writing what of it is missing.

    The centroids are a function of the partitions and of the number of lists. They are computed in one Ray task, and
    the lists in one for each partition; of the pooled vectors, a task holds a sample or those of one partition.
    `current` is that of the current index, which stays if it is the same and its objects have their sizes.
    """
    items = sum(partition.items for partition in partitions)
    if config.candidate_search == "flat" or (config.candidate_search == "auto" and items < IVF_FROM):
        return CandidateSearch()
    lists = min(config.num_lists or list_count(items), items)
    content = canonical_json({"partitions": [p.files["pooled"].sha256 for p in partitions], "lists": lists})
    probes = config.num_probes or probe_count(lists)
    search = CandidateSearch("ivf", min(probes, lists), sha256(content).hexdigest())
    if current.identity == search.identity and _is_stored(store, current.objects(gallery)):
        return replace(current, probes=search.probes)
    import ray

    connect(cluster)
    bundle, setting = {"CPU": config.actor_cpus}, f"index.actor_cpus is {config.actor_cpus:g}"
    wait_for_resources(
        cluster, ResourceRequest([bundle], setting, "lower it, or use a larger cluster (cluster.address)")
    )
    threads = max(1, round(config.actor_cpus))
    remote: Any = ray.remote(num_cpus=config.actor_cpus)
    with as_user_errors():
        name = centroids_name(gallery, search.identity)
        task = remote(write_centroids).remote(store, name, partitions, lists, threads)
        centroids = result_of(task, f"the centroids of the lists of {gallery}")
        write = remote(write_lists)
        tasks = [write.remote(store, p, name, centroids, lists, search.identity, threads) for p in partitions]
        found = results_of(tasks, f"the lists of the {len(tasks)} partitions of {gallery}")
    return replace(search, centroids=centroids, lists={p.name: file for p, file in zip(partitions, found, strict=True)})


def _is_stored(store: Store, objects: Mapping[str, StoredFile]) -> bool:
    sizes = {name: info.size for name, info in store.scan()}
    return all(sizes.get(name) == stored.size for name, stored in objects.items())


def write_centroids(store: Store, name: str, partitions: Sequence[Partition], lists: int, threads: int) -> StoredFile:
    """Computes the centroids of a gallery from a sample of its pooled vectors and writes them, unless they exist."""
    if _has_values(store, name, lists * partitions[0].width):  # an interrupted build wrote it
        return stored_file(store, name)
    faiss().omp_set_num_threads(threads)
    rows, sample, start = sample_rows(sum(partition.items for partition in partitions), lists), [], 0
    for partition in partitions:
        own = rows[(rows >= start) & (rows < start + partition.items)] - start
        if len(own):
            sample.append(np.array(read_pooled(store, partition)[own]))
        start += partition.items
    centroids_LD = compute_centroids(np.concatenate(sample), lists)
    return put_file(store, name, lambda: iter([save_npy(centroids_LD)]))


def write_lists(
    store: Store, partition: Partition, centroids: str, stored: StoredFile, lists: int, identity: str, threads: int
) -> StoredFile:
    """Assigns the items of a partition to the centroids with this name and writes their lists, unless they exist."""
    name = lists_name(partition.name, identity)
    if _has_values(store, name, partition.items):
        return stored_file(store, name)
    faiss().omp_set_num_threads(threads)
    centroids_LD = read_matrix(store, centroids, stored, np.float32, (lists, partition.width))
    lists_N = assign(read_pooled(store, partition), centroids_LD)
    return put_file(store, name, lambda: iter([save_npy(lists_N)]))


def _has_values(store: Store, name: str, count: int) -> bool:
    """Returns whether a file of `count` values of 4 bytes exists with its size; `put_file` reports another size."""
    info = store.info(name)
    return info is not None and info.size == HEADER_BYTES + 4 * count


def read_pooled(store: Store, partition: Partition) -> NDArray[np.float16]:
    """Returns the pooled vectors (N x D) of a partition, verified. Raises CorruptDataError if they are corrupt."""
    shape = (partition.items, partition.width)
    return read_matrix(store, file_name(partition.name, "pooled"), partition.files["pooled"], np.float16, shape)
