"""Building a candidate search: when lists are needed, and what they and their centroids hold.

`test_index_build.py` builds one on Ray.
"""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from infra.canonical_json import canonical_json
from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.features.npy import load_npy
from pipelines.search import candidate_search_build
from pipelines.search.candidate_search import probe_count
from pipelines.search.candidate_search_build import build_candidate_search, read_pooled, write_centroids, write_lists
from pipelines.search.config import IndexConfig
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_format import CandidateSearch
from pipelines.search.layout import centroids_name, file_name, lists_name
from pipelines.search.partition import Partition

LISTS, NAME, IDENTITY = 4, "photos-0123456789ab.centroids.npy", "0123456789ab"


@pytest.fixture
def store(copy) -> FolderStore:
    return FolderStore(copy)


@pytest.fixture
def partitions(built: IndexBuild) -> tuple[Partition, ...]:
    return built.document.galleries["photos"].partitions


@pytest.mark.parametrize("config", [IndexConfig(candidate_search="flat"), IndexConfig(candidate_search="auto")])
def test_a_small_gallery_needs_no_lists(store: FolderStore, partitions, config: IndexConfig):
    before = store.objects()
    assert (
        build_candidate_search(store, "photos", partitions, config, ClusterConfig(), CandidateSearch())
        == CandidateSearch()
    )
    assert store.objects() == before


@pytest.fixture
def current(store: FolderStore, partitions, monkeypatch) -> CandidateSearch:
    """A complete candidate search, in a process that raises ConnectionError where it would join a cluster."""

    def joined(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(candidate_search_build, "connect", joined)
    content = {"partitions": [p.files["pooled"].sha256 for p in partitions], "lists": LISTS}
    identity = sha256(canonical_json(content)).hexdigest()
    name = centroids_name("photos", identity)
    centroids = write_centroids(store, name, partitions, LISTS, threads=1)
    lists = {p.name: write_lists(store, p, name, centroids, LISTS, identity, threads=1) for p in partitions}
    return CandidateSearch("ivf", 9, identity, centroids, lists)


def test_the_same_partitions_and_lists_keep_the_stage(store: FolderStore, partitions, current: CandidateSearch):
    config = IndexConfig(candidate_search="ivf", num_lists=LISTS, num_probes=2)
    found = build_candidate_search(store, "photos", partitions, config, ClusterConfig(), current)
    assert found == replace(current, probes=2)
    automatic = replace(config, num_probes=0)
    found = build_candidate_search(store, "photos", partitions, automatic, ClusterConfig(), current)
    assert found == replace(current, probes=probe_count(LISTS))
    for other in (partitions[1:], partitions[::-1]):
        with pytest.raises(ConnectionError):
            build_candidate_search(store, "photos", other, config, ClusterConfig(), current)


@pytest.mark.parametrize("kind", ["centroids", "lists"])
def test_a_stage_with_a_lost_or_cut_file_is_not_kept(
    store: FolderStore, partitions, current: CandidateSearch, kind: str
):
    config = IndexConfig(candidate_search="ivf", num_lists=LISTS)
    name = next(name for name in current.objects("photos") if name.endswith(f".{kind}.npy"))
    data = store.read(name)
    store.replace(name, data[:-1])
    with pytest.raises(ConnectionError):
        build_candidate_search(store, "photos", partitions, config, ClusterConfig(), current)
    store.delete(name)
    with pytest.raises(ConnectionError):
        build_candidate_search(store, "photos", partitions, config, ClusterConfig(), current)


def test_a_cut_file_of_a_stage_is_refused(store: FolderStore, partitions, current: CandidateSearch):
    name, partition = centroids_name("photos", current.identity), partitions[0]
    own = lists_name(partition.name, current.identity)
    store.replace(own, store.read(own)[:-1])
    with pytest.raises(UserError, match=rf"{own} has .*\d bytes, expected \d+; delete it and run again"):
        write_lists(store, partition, name, current.centroids, LISTS, current.identity, threads=1)
    store.replace(name, store.read(name)[:-1])
    with pytest.raises(UserError, match=rf"{name} has .*\d bytes, expected \d+; delete it and run again"):
        write_centroids(store, name, partitions, LISTS, threads=1)


def test_centroids_are_unit_vectors_and_written_once(store: FolderStore, partitions):
    stored = write_centroids(store, NAME, partitions, LISTS, threads=1)
    centroids = load_npy(store.read(NAME))
    assert centroids.shape == (LISTS, partitions[0].width)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
    before = store.objects()
    assert write_centroids(store, NAME, partitions[:1], LISTS, threads=1) == stored
    assert store.objects() == before


def test_an_item_is_in_the_list_of_its_nearest_centroid(store: FolderStore, partitions):
    centroids = write_centroids(store, NAME, partitions, LISTS, threads=1)
    values = load_npy(store.read(NAME))
    for partition in partitions:
        stored = write_lists(store, partition, NAME, centroids, LISTS, IDENTITY, threads=1)
        lists = load_npy(store.read(lists_name(partition.name, IDENTITY)))
        assert stored.size == store.info(lists_name(partition.name, IDENTITY)).size
        products = read_pooled(store, partition).astype(np.float32) @ values.T
        assert lists.tolist() == products.argmax(axis=1).tolist()
    before = store.objects()
    assert write_lists(store, partitions[-1], "nowhere", centroids, LISTS, IDENTITY, threads=1) == stored
    assert store.objects() == before


def test_corrupt_pooled_vectors_are_an_error(store: FolderStore, partitions):
    name = file_name(partitions[0].name, "pooled")
    data = store.read(name)
    store.replace(name, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match=r"pooled\.npy does not have the sha256 in the index"):
        read_pooled(store, partitions[0])
