"""Photos of a split: selected by key, with boxes, and refused if they have another type."""

from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.features.split import Split, stacked
from tests.support import feature_sets


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("set")
    return feature_sets.write_set(folder, feature_sets.manifest(folder, 12)).split("train")


def test_selected_photos_keep_their_order_and_regions(train: Split):
    keys = [train.keys[2], train.keys[0]]
    selected = train.selecting(keys)
    assert selected.keys == keys
    assert selected.photos_stored == len(train) == 7
    np.testing.assert_array_equal(selected[:], np.asarray(train[:])[[2, 0]])
    np.testing.assert_array_equal(selected.boxes(1), train.boxes(0))
    assert [meta["source"] for meta in selected.meta] == selected.sources == [f"{key}.png" for key in keys]


def test_different_numbers_of_regions_are_a_list():
    two, three = np.zeros((2, 8), np.float16), np.zeros((3, 8), np.float16)
    assert stacked([two, two]).shape == (2, 2, 8)
    assert [len(regions) for regions in stacked([two, three])] == [2, 3]


def test_features_of_another_type_are_an_error(tmp_path: Path):
    change = {"p4": {"regions_RF": np.zeros((3, 8), np.float32)}}
    split = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12), change).split("val")
    with pytest.raises(UserError, match=r"p4\.regions\.npy is float32 of shape \(3, 8\), expected a matrix of float16"):
        split[:]
