"""A gallery of which a process holds all partitions or some: rows, vectors, boxes, filters, and nearest items."""

import numpy as np
import pytest
import torch

from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel
from pipelines.search.candidate_search_build import read_pooled
from pipelines.search.gallery import Filter, HeldGallery
from pipelines.search.index_build import IndexBuild

ITEMS = 59


def held(built: IndexBuild, *places: int, name: str = "photos") -> HeldGallery:
    """Returns a gallery with the partitions at these places, or with all of them."""
    gallery = built.document.galleries[name]
    return HeldGallery(built.store, name, gallery, [gallery.partitions[n].name for n in places] if places else None)


def rows_of(built: IndexBuild, *places: int) -> list[int]:
    """Returns the rows of partitions in the complete gallery."""
    ends = np.cumsum([partition.items for partition in built.document.galleries["photos"].partitions])
    return [row for n in places for row in range(ends[n - 1] if n else 0, ends[n])]


@pytest.fixture(scope="module")
def pooled(built: IndexBuild) -> np.ndarray:
    partitions = built.document.galleries["photos"].partitions
    return np.concatenate([read_pooled(built.store, partition) for partition in partitions]).astype(np.float32)


@pytest.mark.parametrize("places", [(), (1, 4), (0,)])
def test_nearest_items_are_those_of_all_products(built: IndexBuild, pooled: np.ndarray, places: tuple[int, ...]):
    gallery = held(built, *places)
    mine = rows_of(built, *places) if places else list(range(ITEMS))
    assert (len(gallery), gallery.total) == (len(mine), ITEMS)
    queries = np.random.default_rng(0).normal(size=(3, pooled.shape[1])).astype(np.float32)
    rows, cosines = gallery.nearest(queries, 5, None)
    for q, query in enumerate(queries):
        products = pooled[mine] @ query
        best = np.argsort(-products)[:5]
        assert rows[q].tolist() == [mine[n] for n in best]
        np.testing.assert_allclose(cosines[q], products[best], rtol=1e-5)


def test_missing_candidates_have_no_row(built: IndexBuild, pooled: np.ndarray):
    gallery = held(built)
    rows, cosines = gallery.nearest(pooled[:1], ITEMS, Filter(split="val", key_prefix="p1"))
    found = [gallery.item(row).key for row in rows[0] if row >= 0]
    assert sorted(found) == ["p10", "p16"]
    assert (rows[0, 2:] == -1).all()
    assert np.isneginf(cosines[0, 2:]).all()


def test_vectors_are_the_encoded_photos_in_the_order_asked(
    built: IndexBuild, indexed_model: LoadedModel, indexed_features: FeatureSet
):
    gallery, train = held(built), indexed_features.split("train")
    asked = np.array([30, 2, 17])
    with torch.inference_mode():
        expected = indexed_model.shan.encode_photos(torch.from_numpy(train[asked]))
    for found, vectors in zip(gallery.vectors(asked), expected, strict=True):
        torch.testing.assert_close(found, vectors, rtol=0, atol=1e-3)  # stored as float16
    np.testing.assert_array_equal(gallery.boxes(17), train.boxes(17))
    assert [gallery.item(row).key for row in asked] == [train.keys[row] for row in asked]
    item = gallery.item(17)
    assert (item.row, item.dataset, item.split, item.source) == (17, "tiny", "train", f"{item.key}.png")


def test_some_partitions_keep_the_rows_of_all(built: IndexBuild):
    complete, part, mine = held(built), held(built, 1, 4), rows_of(built, 1, 4)
    assert part.holds(np.array([-1, *range(ITEMS)])).tolist() == [False, *(row in mine for row in range(ITEMS))]
    for row in (mine[0], mine[-1]):
        assert part.item(row) == complete.item(row)
        np.testing.assert_array_equal(part.boxes(row), complete.boxes(row))


def test_a_process_without_partitions_finds_nothing(built: IndexBuild):
    gallery = HeldGallery(built.store, "photos", built.document.galleries["photos"], [])
    rows, cosines = gallery.nearest(np.ones((2, 16), np.float32), 3, Filter("val"))
    assert (len(gallery), rows.shape, cosines.shape) == (0, (2, 0), (2, 0))
    assert gallery.holds(np.array([[0, -1]])).tolist() == [[False, False]]


def test_an_item_of_the_captions_is_one_caption(built: IndexBuild):
    gallery = held(built, name="captions")
    assert gallery.total == 2 * ITEMS
    first, second = gallery.item(0), gallery.item(1)
    assert first.key == second.key
    assert (first.captions, second.captions) == (("a photo of 0",), ("number 0 <again>",))
    assert gallery.boxes(0).shape == (0, 4)
