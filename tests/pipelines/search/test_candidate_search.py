"""Candidates by pooled vectors, against NumPy: flat, in lists, filtered, and divided among processes."""

import numpy as np
import pytest

from pipelines.search.candidate_search import (
    CandidateIndex,
    assign,
    compute_centroids,
    list_count,
    probe_count,
    sample_rows,
)

WIDTH, ITEMS, LISTS = 16, 400, 8


def unit(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, WIDTH))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


POOLED, QUERIES = unit(ITEMS, 0), unit(5, 1).astype(np.float32)
COSINES = QUERIES @ POOLED.astype(np.float32).T


@pytest.fixture(scope="module")
def centroids() -> np.ndarray:
    return compute_centroids(POOLED, LISTS)


def best(cosines: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(-cosines, axis=1, kind="stable")[:, :count]


def test_flat_candidates_are_the_nearest_items_of_all_partitions():
    index = CandidateIndex(WIDTH, [POOLED[:100], POOLED[100:130], POOLED[130:]])
    items, cosines = index.search(QUERIES, 10)
    np.testing.assert_array_equal(items, best(COSINES, 10))
    np.testing.assert_allclose(cosines, np.take_along_axis(COSINES, items, axis=1), atol=1e-5)
    assert index.search(QUERIES, 10**6)[0].shape == (5, ITEMS)


def test_lists_hold_every_item_at_its_nearest_centroid(centroids: np.ndarray):
    lists = assign(POOLED, centroids)
    np.testing.assert_array_equal(lists, (POOLED.astype(np.float32) @ centroids.T).argmax(axis=1))
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(compute_centroids(POOLED, LISTS), centroids)


def test_candidates_of_all_lists_are_those_of_flat(centroids: np.ndarray):
    index = CandidateIndex(WIDTH, [POOLED], centroids, [assign(POOLED, centroids)], probes=LISTS)
    np.testing.assert_array_equal(index.search(QUERIES, 10)[0], best(COSINES, 10))


def test_some_lists_give_the_nearest_items_of_these(centroids: np.ndarray):
    lists = assign(POOLED, centroids)
    index = CandidateIndex(WIDTH, [POOLED], centroids, [lists], probes=2)
    nearest = best(QUERIES @ centroids.T, 2)
    expected = [
        best(np.where(np.isin(lists, near), cosines, -2)[None], 10)[0]
        for near, cosines in zip(nearest, COSINES, strict=True)
    ]
    np.testing.assert_array_equal(index.search(QUERIES, 10)[0], expected)


def test_processes_find_together_what_one_finds(centroids: np.ndarray):
    lists, cuts = assign(POOLED, centroids), [(0, 150), (150, 400)]
    alone = CandidateIndex(WIDTH, [POOLED], centroids, [lists], probes=2).search(QUERIES, 10)
    parts = []
    for start, stop in cuts:
        part = CandidateIndex(WIDTH, [POOLED[start:stop]], centroids, [lists[start:stop]], probes=2)
        items, cosines = part.search(QUERIES, 10)
        parts.append((np.where(items < 0, -1, items + start), cosines))
    items, cosines = (np.concatenate(found, axis=1) for found in zip(*parts, strict=True))
    order = best(cosines, 10)
    np.testing.assert_array_equal(np.take_along_axis(items, order, axis=1), alone[0])


@pytest.mark.parametrize("probes", [0, 1])
def test_a_filter_finds_the_nearest_of_the_allowed_items(centroids: np.ndarray, probes: int):
    lists = [assign(POOLED, centroids)] if probes else []
    index = CandidateIndex(WIDTH, [POOLED], centroids if probes else None, lists, probes)
    allowed = np.arange(ITEMS) % 7 == 3
    items, _ = index.search(QUERIES, 10, allowed)
    np.testing.assert_array_equal(items, best(np.where(allowed, COSINES, -2), 10))
    few, _ = index.search(QUERIES, 10, np.arange(ITEMS) < 3)
    assert sorted(few[0].tolist()) == [-1] * 7 + [0, 1, 2]


def test_every_list_is_compared_on_request(centroids: np.ndarray):
    index = CandidateIndex(WIDTH, [POOLED], centroids, [assign(POOLED, centroids)], probes=1)
    items, _ = index.search(QUERIES, ITEMS, every_list=True)
    assert all(sorted(found) == list(range(ITEMS)) for found in items.tolist())


def test_no_items_no_candidates():
    items, cosines = CandidateIndex(WIDTH, []).search(QUERIES, 10)
    assert items.shape == cosines.shape == (5, 0)


def test_the_sample_is_even_and_lists_follow_the_size():
    assert [list_count(items) for items in (50_000, 10**5, 10**6)] == [1024, 1024, 4096]
    assert [probe_count(lists) for lists in (1, 49, 100, 1024, 4096)] == [1, 49, 80, 256, 512]
    assert sample_rows(100, 8).tolist() == list(range(100))
    rows = sample_rows(10**6, 4096)
    assert (len(rows), rows[0], rows[-1]) == (64 * 4096, 0, 10**6 - 1)
